import type { Family } from '../family.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { switchedWindow, windowLayers } from './shared/windows.js';

/** Qwen 2 and 2.5, dense (Yang et al. 2024): Llama with biases of queries, keys and values. */
export const qwen2: Family = {
  modelType: 'qwen2',
  ggufArchitecture: 'qwen2',
  fromHuggingFace(c) {
    const base = { ...readLlamaLike(c, 'qwen2', { maxSeqLen: 32768 }), window: switchedWindow(c) };
    const from = c.int('max_window_layers', 'layers', 28, 0);
    return {
      ...base,
      queryKeyValueBias: true,
      windowLayers: windowLayers(c, base, (layer) => layer >= from),
    };
  },
  huggingFaceNames: () => llamaNames,
};
