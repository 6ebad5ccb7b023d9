import { softmaxTopK } from '../../moe/gating/index.js';
import { allLayers, USUAL_MOE } from '../decoder/config.js';
import type { Family } from '../family.js';
import { named } from '../read/names.js';
import { llamaNames, readLlamaLike } from './llama.js';
import { expertNames, PROJECTIONS } from './shared/experts.js';
import { switchedWindow, windowLayers } from './shared/windows.js';

/** Qwen 1.5 and 2 MoE (Yang et al. 2024): small experts, and a shared one behind a gate of its own. */
export const qwen2Moe: Family = {
  modelType: 'qwen2_moe',
  ggufArchitecture: 'qwen2moe',
  fromHuggingFace(c) {
    const base = {
      ...readLlamaLike(c, 'qwen2_moe', { maxSeqLen: 32768 }),
      queryKeyValueBias: c.bool('qkv_bias', true),
      window: switchedWindow(c),
    };
    const below = c.int('max_window_layers', 'layers', 28, 0);
    const step = c.int('decoder_sparse_step', 'layers', 1);
    const dense = c.layers('mlp_only_layers');
    const moe = {
      ...USUAL_MOE,
      nExperts: c.int(['num_experts', 'num_local_experts'], 'experts', 60),
      topK: c.int('num_experts_per_tok', 'experts', 4),
      dFf: c.int('moe_intermediate_size', 'width', 1408),
      gating: softmaxTopK({ renormalize: c.bool('norm_topk_prob', false) }),
      layers: allLayers(base.nLayers).filter((i) => (i + 1) % step === 0 && !dense.includes(i)),
      dFfShared: c.int('shared_expert_intermediate_size', 'width', 5632),
      sharedGate: true,
    };
    return {
      ...base,
      windowLayers: windowLayers(c, base, (layer) => layer % 2 === 0 && layer < below),
      moe: moe.layers.length > 0 ? moe : null,
    };
  },
  huggingFaceNames: () => [...llamaNames, ...expertNames(PROJECTIONS), ...SHARED],
};

const SHARED = named(
  {
    'shared.gate': 'mlp.shared_expert.gate_proj',
    'shared.up': 'mlp.shared_expert.up_proj',
    'shared.down': 'mlp.shared_expert.down_proj',
    shared_gate: 'mlp.shared_expert_gate',
  },
  'layers.{i}.',
  'model.layers.{i}.',
);
