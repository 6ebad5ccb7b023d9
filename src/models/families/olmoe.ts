import { softmaxTopK } from '../../moe/gating/index.js';
import { allLayers, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { expertNames, PROJECTIONS } from './shared/experts.js';

/**
 * OLMoE (Muennighoff et al. 2024): small experts in every layer, probabilities of the chosen not renormalised, one norm
 * over all heads of a query or key.
 */
export const olmoe: Family = {
  modelType: 'olmoe',
  ggufArchitecture: 'olmoe',
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'olmoe', { maxSeqLen: 4096, normEps: 1e-5 });
    c.only('moe_intermediate_size', base.dFf); // GGUF files may give the experts' width under both names
    return {
      ...base,
      qkNorm: 'heads',
      clipQkv: c.raw('clip_qkv') === undefined ? null : c.positive('clip_qkv'),
      moe: {
        ...USUAL_MOE,
        nExperts: c.int(['num_experts', 'num_local_experts'], 'experts', 64),
        topK: c.int('num_experts_per_tok', 'experts', 8),
        dFf: base.dFf,
        gating: softmaxTopK({ renormalize: c.bool('norm_topk_prob', false) }),
        layers: allLayers(base.nLayers),
      },
    };
  },
  huggingFaceNames: () => [...llamaNames, ...expertNames(PROJECTIONS)],
};
