import { allLayers, type DecoderConfig } from '../../decoder/config.js';
import type { ConfigReader } from '../../read/config-reader.js';

/** A window that stands in a config counts only where it is switched on; 0: none. */
export function switchedWindow(c: ConfigReader): number {
  c.raw('sliding_window');
  const on = c.bool('use_sliding_window', false) && c.source.sliding_window !== null;
  return on ? c.int('sliding_window', 'length', 4096) : 0;
}

/** The layers that `layer_types` calls sliding; without it `usual`. */
export function windowLayers(
  c: ConfigReader,
  { nLayers, window }: Pick<DecoderConfig, 'nLayers' | 'window'>,
  usual: (layer: number) => boolean,
): number[] {
  const kinds = c.raw('layer_types');
  const all = allLayers(nLayers);
  if (kinds === undefined) return all.filter(usual);
  const known = window > 0 ? ['full_attention', 'sliding_attention'] : ['full_attention'];
  if (!Array.isArray(kinds) || kinds.length !== nLayers || !kinds.every((kind) => known.includes(kind)))
    throw c.fail('layer_types', `a list of ${nLayers} times ${known.join(' or ')}`);
  return all.filter((i) => kinds[i] === 'sliding_attention');
}
