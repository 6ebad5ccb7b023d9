import { groupLimitedGreedy, softmaxTopK } from '../../moe/gating/index.js';
import { type MoEConfig, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import type { ConfigReader } from '../read/config-reader.js';
import { llamaNames } from './llama.js';
import { expertNames, PROJECTIONS } from './shared/experts.js';
import { latentNames, readLatentLike } from './shared/latent.js';
import { latentGguf } from './shared/latent-gguf.js';
import { SHARED_EXPERTS, sparseLayers } from './shared/sigmoid-experts.js';

/** DeepSeek-V2 and its Lite (DeepSeek-AI 2024, arXiv 2405.04434): latent attention, softmax scores, experts of the best groups. */
export const deepseekV2: Family = {
  modelType: 'deepseek_v2',
  ggufArchitecture: 'deepseek2',
  ggufInterleaved: true,
  ggufImplies: { n_shared_experts: 0 },
  ggufOwn: latentGguf,
  fromHuggingFace(c) {
    const base = readLatentLike(c, 'deepseek_v2', { maxSeqLen: 2048, interleaved: true });
    return { ...base, moe: readExperts(c, base.nLayers) };
  },
  huggingFaceNames: () => [...latentNames, ...llamaNames, ...expertNames(PROJECTIONS), ...SHARED_EXPERTS],
};

function readExperts(c: ConfigReader, nLayers: number): MoEConfig | null {
  const layers = sparseLayers(c, nLayers, 0);
  const dFf = c.int('moe_intermediate_size', 'width', 1407);
  const scale = c.positive('routed_scaling_factor', 1);
  const groups = c.int('n_group', 'experts', 1);
  const topGroups = c.int('topk_group', 'experts', groups);
  const limited = c.oneOf('topk_method', { greedy: false, group_limited_greedy: true }, 'greedy');
  c.only('scoring_func', 'softmax');
  c.raw('norm_topk_prob'); // without effect in the reference
  const moe: MoEConfig = {
    ...USUAL_MOE,
    nExperts: c.int(['n_routed_experts', 'num_local_experts'], 'experts', 64),
    topK: c.int('num_experts_per_tok', 'experts'),
    dFf,
    gating:
      limited && groups > 1
        ? groupLimitedGreedy({ groups, topGroups, scale })
        : softmaxTopK({ renormalize: false, scale }),
    layers,
    dFfShared: c.int('n_shared_experts', 'experts', 2, 0) * dFf,
  };
  return layers.length > 0 ? moe : null;
}
