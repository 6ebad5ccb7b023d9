import { allLayers, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { expertNames } from './shared/experts.js';

/** Mixtral 8x7B and 8x22B (Jiang et al. 2024): every layer sparse, top-2 of 8, probabilities renormalised over the chosen. */
export const mixtral: Family = {
  modelType: 'mixtral',
  ggufArchitecture: 'llama',
  ggufInterleaved: true,
  ownsGguf: (metadata) => metadata.getInt('llama.expert_count', 0) > 0,
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'mixtral');
    c.raw('router_jitter_noise'); // multiplies the input in training only
    // what GGUF files may say besides
    c.only('moe_intermediate_size', base.dFf);
    c.only('norm_topk_prob', true);
    return {
      ...base,
      window: c.raw('sliding_window') === undefined ? 0 : c.int('sliding_window', 'length'),
      moe: {
        ...USUAL_MOE,
        nExperts: c.int(['num_local_experts', 'num_experts'], 'experts', 8),
        topK: c.int('num_experts_per_tok', 'experts', 2),
        dFf: base.dFf,
        gating: 'softmax-top-k',
        layers: allLayers(base.nLayers),
      },
    };
  },
  huggingFaceNames: () => [...llamaNames, ...expertNames(MIXTRAL)],
};

/** Of published files. */
export const MIXTRAL = { block: 'block_sparse_moe', gate: 'w1', up: 'w3', down: 'w2' } as const;
