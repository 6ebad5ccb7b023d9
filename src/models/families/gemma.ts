import { rmsNorm } from '../decoder/config.js';
import type { Family } from '../family.js';
import { llamaNames, readLlamaLike } from './llama.js';

/**
 * Gemma (Gemma Team 2024): norms scale by 1 + weight, embeddings are multiplied by √D, GeGLU by the tanh form also where a
 * config calls it plain gelu, tied embeddings.
 */
export const gemma: Family = {
  modelType: 'gemma',
  ggufArchitecture: 'gemma',
  ggufImplies: { norm_weights_with_offset: true },
  fromHuggingFace(c) {
    const defaults = { maxSeqLen: 8192, headDim: 256, tied: true, activation: 'gelu_pytorch_tanh' };
    const base = readLlamaLike(c, 'gemma', defaults);
    c.only('hidden_activation', 'gelu_pytorch_tanh', 'gelu');
    c.only('use_bidirectional_attention', false);
    return {
      ...base,
      activation: base.activation === 'gelu' ? 'gelu_tanh' : base.activation,
      // the offset is part of the weights in GGUF files
      norm: rmsNorm(base.norm.eps, c.bool('norm_weights_with_offset', false) ? 0 : 1),
      embeddingScale: Math.sqrt(base.dModel),
    };
  },
  huggingFaceNames: () => llamaNames,
};
