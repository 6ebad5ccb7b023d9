import type { Family } from '../family.js';
import { llamaNames } from './llama.js';
import { expertNames, PROJECTIONS } from './shared/experts.js';
import { latentNames, predictionNames, readLatentLike } from './shared/latent.js';
import { latentGguf } from './shared/latent-gguf.js';
import { readSigmoidExperts, SHARED_EXPERTS } from './shared/sigmoid-experts.js';

/**
 * DeepSeek-V3 and R1 (DeepSeek-AI 2024, arXiv 2412.19437): latent attention, sigmoid scores with a correction bias and groups, layers that
 * predict further ahead.
 */
export const deepseekV3: Family = {
  modelType: 'deepseek_v3',
  ggufArchitecture: 'deepseek2',
  ggufInterleaved: true,
  ggufImplies: { n_shared_experts: 0 },
  ggufOwn: { ...latentGguf, read: (metadata) => ({ ...latentGguf.read(metadata), topk_method: 'noaux_tc' }) },
  // files from configs that leave the scores unsaid show them by the bias
  ownsGguf: (metadata, has) => {
    const scores = metadata.getInt('deepseek2.expert_gating_func', 0);
    const sparse = metadata.getInt('deepseek2.leading_dense_block_count', 0);
    return scores === 2 || (scores === 0 && has(`blk.${sparse}.exp_probs_b.bias`));
  },
  fromHuggingFace(c) {
    const interleaved = c.bool('rope_interleave', true);
    const base = readLatentLike(c, 'deepseek_v3', { maxSeqLen: 4096, interleaved });
    return {
      ...base,
      moe: readSigmoidExperts(c, base.nLayers),
      nPredictionLayers: c.int(['num_nextn_predict_layers', 'num_mtp_layers'], 'layers', 0, 0),
    };
  },
  huggingFaceNames: () => [
    ...latentNames,
    ...predictionNames,
    ...llamaNames,
    ...expertNames(PROJECTIONS),
    ...SHARED_EXPERTS,
  ],
};
