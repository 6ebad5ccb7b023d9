import type { DecoderConfig } from '../decoder/config.js';
import type { Family } from '../family.js';
import type { ConfigReader } from '../read/config-reader.js';
import { type Defaults, llamaNames, readLlamaLike } from './llama.js';
import { switchedWindow, windowLayers } from './shared/windows.js';

/** Qwen 3, dense (Yang et al. 2025): Llama with a norm of each head's query and key. */
export const qwen3: Family = {
  modelType: 'qwen3',
  ggufArchitecture: 'qwen3',
  fromHuggingFace(c) {
    const base = readQwen3(c, 'qwen3', { headDim: 128 });
    const from = c.int('max_window_layers', 'layers', 28, 0);
    return { ...base, windowLayers: windowLayers(c, base, (layer) => layer >= from) };
  },
  huggingFaceNames: () => llamaNames,
};

/** What the dense and the sparse models share. */
export function readQwen3(c: ConfigReader, family: string, defaults: Defaults = {}): DecoderConfig {
  const base = readLlamaLike(c, family, { maxSeqLen: 32768, ...defaults });
  return { ...base, qkNorm: 'head', window: switchedWindow(c) };
}
