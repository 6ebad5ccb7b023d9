import { USUAL_MOE } from '../../decoder/config.js';
import type { ConfigReader } from '../../read/config-reader.js';
import type { EncoderDecoderConfig, StackConfig } from '../../stacks/stack-config.js';

/** How relatives of T5 choose among experts, and which layers have some. */
interface Choice {
  readonly gating: 'switch-top-1' | 'st-moe-top-2';
  readonly topK: number;
  /** Experts of a layer where the config does not say. */
  readonly usual: number;
  layersOf(part: 'encoder' | 'decoder', nLayers: number): number[];
}

/** A model like T5 with experts in both stacks; `rest`: what else layers then have. */
export function withExperts(
  c: ConfigReader,
  base: EncoderDecoderConfig,
  { gating, topK, usual, layersOf }: Choice,
  rest: Partial<StackConfig>,
): EncoderDecoderConfig {
  const stack = (part: 'encoder' | 'decoder'): StackConfig => {
    const { nLayers, dFf } = base[part];
    const layers = layersOf(part, nLayers);
    const nExperts = c.int('num_experts', 'experts', usual);
    const routerBias = c.bool('router_bias', false);
    const moe = { ...USUAL_MOE, nExperts, topK, dFf, gating, layers, routerBias };
    return { ...base[part], moe: layers.length > 0 ? moe : null, ...rest };
  };
  return { ...base, encoder: stack('encoder'), decoder: stack('decoder') };
}

/** The numbers of the layers of which something holds. */
export const layersWhere = (nLayers: number, holds: (layer: number) => boolean): number[] =>
  Array.from({ length: nLayers }, (_, i) => i).filter(holds);
