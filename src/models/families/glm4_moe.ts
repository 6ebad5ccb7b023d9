import type { Family } from '../family.js';
import { GGUF_POST_ATTENTION_NORM } from '../gguf/names.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { expertNames, PROJECTIONS } from './shared/experts.js';
import { predictionNames } from './shared/latent.js';
import { readSigmoidExperts, SHARED_EXPERTS } from './shared/sigmoid-experts.js';

/**
 * GLM-4.5 and 4.6 (GLM-4.5 Team 2025): sigmoid scores with a correction bias, shared experts, first layers dense, half of
 * each head turns.
 */
export const glm4Moe: Family = {
  modelType: 'glm4_moe',
  ggufArchitecture: 'glm4moe',
  ggufImplies: { attention_bias: false, n_shared_experts: 0 },
  ggufNames: GGUF_POST_ATTENTION_NORM,
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'glm4_moe', {
      maxSeqLen: 131072,
      normEps: 1e-5,
      nKvHeads: 8,
      rotaryShare: 0.5,
    });
    return {
      ...base,
      outputBias: false,
      qkNorm: c.bool('use_qk_norm', false) ? 'head' : null,
      moe: readSigmoidExperts(c, base.nLayers),
      nPredictionLayers: c.int(['num_nextn_predict_layers', 'num_mtp_layers'], 'layers', 0, 0),
    };
  },
  huggingFaceNames: () => [...predictionNames, ...llamaNames, ...expertNames(PROJECTIONS), ...SHARED_EXPERTS],
};
