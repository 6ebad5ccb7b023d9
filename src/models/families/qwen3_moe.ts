import { softmaxTopK } from '../../moe/gating/index.js';
import { allLayers, type DecoderConfig, type MoEConfig, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import type { ConfigReader } from '../read/config-reader.js';
import { llamaNames } from './llama.js';
import { readQwen3 } from './qwen3.js';
import { expertNames, PROJECTIONS } from './shared/experts.js';

/** Qwen 3, sparse (Yang et al. 2025): many small experts without a shared one; some layers may stay dense. */
export const qwen3Moe: Family = {
  modelType: 'qwen3_moe',
  ggufArchitecture: 'qwen3moe',
  ggufImplies: { norm_topk_prob: true },
  fromHuggingFace(c) {
    const base = readQwen3(c, 'qwen3_moe');
    c.raw('max_window_layers'); // a window, where it is switched on, is that of all layers
    // published configs may name features of other families that the model has not
    c.only('qkv_bias', false);
    c.only('use_qk_norm', true);
    c.only('shared_expert_intermediate_size', 0);
    return { ...base, moe: readExperts(c, base) };
  },
  huggingFaceNames: () => [...llamaNames, ...expertNames(PROJECTIONS)],
};

function readExperts(c: ConfigReader, { nLayers }: DecoderConfig): MoEConfig | null {
  const step = c.int('decoder_sparse_step', 'layers', 1);
  const dense = c.layers('mlp_only_layers');
  const moe: MoEConfig = {
    ...USUAL_MOE,
    nExperts: c.int(['num_experts', 'num_local_experts'], 'experts', 128),
    topK: c.int('num_experts_per_tok', 'experts', 8),
    dFf: c.int('moe_intermediate_size', 'width', 768),
    gating: softmaxTopK({ renormalize: c.bool('norm_topk_prob', false) }),
    // every step-th layer, counted from 1
    layers: allLayers(nLayers).filter((i) => (i + 1) % step === 0 && !dense.includes(i)),
  };
  return moe.layers.length > 0 ? moe : null;
}
