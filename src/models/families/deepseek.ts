import { softmaxTopK } from '../../moe/gating/index.js';
import { type MoEConfig, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import type { ConfigReader } from '../read/config-reader.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { expertNames, PROJECTIONS } from './shared/experts.js';
import { SHARED_EXPERTS, sparseLayers } from './shared/sigmoid-experts.js';

/** DeepSeekMoE 16B (Dai et al. 2024): many small experts beside shared ones, the first layer dense. */
export const deepseek: Family = {
  modelType: 'deepseek',
  ggufArchitecture: 'deepseek',
  ggufInterleaved: true,
  ggufImplies: { norm_topk_prob: false },
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'deepseek');
    return { ...base, moe: readExperts(c, base.nLayers) };
  },
  huggingFaceNames: () => [...llamaNames, ...expertNames(PROJECTIONS), ...SHARED_EXPERTS],
};

function readExperts(c: ConfigReader, nLayers: number): MoEConfig | null {
  c.only('scoring_func', 'softmax');
  const layers = sparseLayers(c, nLayers, 0);
  if (c.raw('n_routed_experts', 'num_local_experts') === undefined || layers.length === 0) return null;
  const dFf = c.int('moe_intermediate_size', 'width', 1407);
  return {
    ...USUAL_MOE,
    nExperts: c.int(['n_routed_experts', 'num_local_experts'], 'experts'),
    topK: c.int('num_experts_per_tok', 'experts'),
    dFf,
    gating: softmaxTopK({
      renormalize: c.bool('norm_topk_prob', false),
      scale: c.positive('routed_scaling_factor', 1),
    }),
    layers,
    dFfShared: c.int('n_shared_experts', 'experts', 0, 0) * dFf,
  };
}
