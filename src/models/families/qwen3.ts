import { allLayers, type DecoderConfig } from '../config.js';
import type { ConfigReader } from '../config-reader.js';
import type { Family } from '../family.js';
import { type Defaults, llamaNames, readLlamaLike } from './llama.js';

/** Qwen 3, dense (Yang et al. 2025): Llama with a norm of each head's query and key. */
export const qwen3: Family = {
  modelType: 'qwen3',
  ggufArchitecture: 'qwen3',
  fromHuggingFace(c) {
    const base = readQwen3(c, 'qwen3', { headDim: 128 });
    return { ...base, windowLayers: windowLayers(c, base) };
  },
  huggingFaceNames: () => llamaNames,
};

/** What the dense and the sparse models share. A window that stands in a config counts only where it is switched on. */
export function readQwen3(c: ConfigReader, family: string, defaults: Defaults = {}): DecoderConfig {
  const base = readLlamaLike(c, family, { maxSeqLen: 32768, ...defaults });
  c.raw('sliding_window');
  const on = c.bool('use_sliding_window', false) && c.source.sliding_window !== null;
  return { ...base, qkNorm: 'head', window: on ? c.int('sliding_window', 'length', 4096) : 0 };
}

/** By name of the layer's kind, or else from max_window_layers upwards. */
function windowLayers(c: ConfigReader, { nLayers, window }: DecoderConfig): number[] {
  const from = c.int('max_window_layers', 'layers', 28, 0);
  const kinds = c.raw('layer_types');
  const all = allLayers(nLayers);
  if (kinds === undefined) return all.filter((i) => i >= from);
  const known = window > 0 ? ['full_attention', 'sliding_attention'] : ['full_attention'];
  if (!Array.isArray(kinds) || kinds.length !== nLayers || !kinds.every((kind) => known.includes(kind)))
    throw c.fail('layer_types', `a list of ${nLayers} times ${known.join(' or ')}`);
  return all.filter((i) => kinds[i] === 'sliding_attention');
}
