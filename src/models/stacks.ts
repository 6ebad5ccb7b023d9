/** The stacks of layers of a model of any kind: what reports count and print. */
import { cacheWidths, type DecoderConfig, type LayersConfig } from './decoder/config.js';
import type { AnyFiles } from './family.js';
import type { EncoderConfig, EncoderDecoderConfig } from './stacks/stack-config.js';

export type AnyConfig = DecoderConfig | EncoderConfig | EncoderDecoderConfig;

export interface NamedStack {
  readonly name: 'decoder' | 'encoder';
  readonly layers: LayersConfig;
}

export function stacksOf(config: AnyConfig): NamedStack[] {
  if ('stack' in config) return [{ name: 'encoder', layers: config.stack }];
  if (!('encoder' in config)) return [{ name: 'decoder', layers: config }];
  return [
    { name: 'encoder', layers: config.encoder },
    { name: 'decoder', layers: config.decoder },
  ];
}

/** Share of the experts that one token meets in a sparse layer. */
export function activeShare(config: AnyConfig): number {
  const moe = stacksOf(config).find(({ layers }) => layers.moe !== null)?.layers.moe;
  return moe ? moe.topK / moe.nExperts : 1;
}

/** What is kept of a token of the text that is made, and of one that is attended over; none in encoders. */
export function cachedOf({ kind, config }: AnyFiles): {
  readonly own: ReturnType<typeof cacheWidths>;
  readonly memory: ReturnType<typeof cacheWidths>;
} {
  if (kind === 'encoder') return { own: [], memory: [] };
  if (kind === 'decoder') return { own: cacheWidths(config), memory: [] };
  const { nLayers, nHeads, headDim } = config.decoder;
  const widths = Array.from({ length: nLayers }, () => ({ heads: nHeads, key: headDim, value: headDim }));
  return { own: widths, memory: widths };
}
