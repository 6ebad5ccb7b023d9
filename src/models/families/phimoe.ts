import { sparseMixer } from '../../moe/gating/index.js';
import { allLayers, layerNorm, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { MIXTRAL } from './mixtral.js';
import { expertNames } from './shared/experts.js';

/** Phi-3.5-MoE (Abdin et al. 2024; GRIN, Liu et al. 2024): layer norms, biases, top-2 by the sparse mixer. */
export const phimoe: Family = {
  modelType: 'phimoe',
  ggufArchitecture: 'phimoe',
  ggufImplies: { attention_bias: true, lm_head_bias: true },
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'phimoe', { maxSeqLen: 131072, normEps: 1e-5, nKvHeads: 8, theta: 1e6 });
    c.raw('input_jitter_noise'); // multiplies the input in training only
    c.only('moe_intermediate_size', base.dFf);
    return {
      ...base,
      norm: layerNorm(base.norm.eps),
      headBias: c.bool('lm_head_bias', false),
      window: c.raw('sliding_window') === undefined ? 0 : c.int('sliding_window', 'length'),
      moe: {
        ...USUAL_MOE,
        nExperts: c.int('num_local_experts', 'experts', 16),
        topK: c.int('num_experts_per_tok', 'experts', 2),
        dFf: base.dFf,
        gating: sparseMixer({ jitter: c.number('router_jitter_noise', 0.01) }),
        layers: allLayers(base.nLayers),
      },
    };
  },
  huggingFaceNames: () => [...llamaNames, ...expertNames(MIXTRAL)],
};
