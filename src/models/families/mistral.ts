import type { Family } from '../family.js';
import { llamaNames, readLlamaLike } from './llama.js';

/** Mistral 7B (Jiang et al. 2023): Llama with a sliding window. */
export const mistral: Family = {
  modelType: 'mistral',
  ggufArchitecture: 'llama',
  ggufInterleaved: true,
  ggufImplies: { sliding_window: null },
  ownsGguf: (metadata) =>
    metadata.getInt('llama.attention.sliding_window', 0) > 0 &&
    metadata.getInt('llama.expert_count', 0) === 0,
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'mistral', { maxSeqLen: 131072, nKvHeads: 8 });
    c.raw('sliding_window');
    const none = c.source.sliding_window === null;
    return { ...base, window: none ? 0 : c.int('sliding_window', 'length', 4096) };
  },
  huggingFaceNames: () => llamaNames,
};
