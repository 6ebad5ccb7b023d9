import { sigmoidTopK } from '../../../moe/gating/index.js';
import { allLayers, type MoEConfig, USUAL_MOE } from '../../decoder/config.js';
import type { ConfigReader } from '../../read/config-reader.js';
import { type NameTable, named } from '../../read/names.js';

/** Small experts by sigmoid scores with a correction bias, and shared ones (DeepSeek-AI 2024, DeepSeek-V3, section 2.1.2). */
export function readSigmoidExperts(c: ConfigReader, nLayers: number): MoEConfig | null {
  const dFf = c.int('moe_intermediate_size', 'width');
  const groups = c.int('n_group', 'experts', 1);
  c.only('scoring_func', 'sigmoid');
  c.only('topk_method', 'noaux_tc');
  const moe: MoEConfig = {
    ...USUAL_MOE,
    nExperts: c.int(['n_routed_experts', 'num_local_experts'], 'experts'),
    topK: c.int('num_experts_per_tok', 'experts', 8),
    dFf,
    gating: sigmoidTopK({
      groups,
      topGroups: c.int('topk_group', 'experts', groups),
      renormalize: c.bool('norm_topk_prob', true),
      scale: c.positive('routed_scaling_factor', 1),
    }),
    selectionBias: true,
    layers: sparseLayers(c, nLayers),
    dFfShared: c.int('n_shared_experts', 'experts', 1, 0) * dFf,
  };
  return moe.layers.length > 0 ? moe : null;
}

/** All but the first ones, every so many-th. */
export function sparseLayers(c: ConfigReader, nLayers: number, usual = 1): number[] {
  const first = c.int('first_k_dense_replace', 'layers', usual, 0);
  const step = c.int('moe_layer_freq', 'layers', 1);
  return allLayers(nLayers, first).filter((layer) => layer % step === 0);
}

/** With the names of routers and experts in most published files. */
export const SHARED_EXPERTS: NameTable = [
  ...named(
    {
      'shared.gate': 'mlp.shared_experts.gate_proj',
      'shared.up': 'mlp.shared_experts.up_proj',
      'shared.down': 'mlp.shared_experts.down_proj',
    },
    'layers.{i}.',
    'model.layers.{i}.',
  ),
  {
    tensor: 'model.layers.{i}.mlp.gate.e_score_correction_bias',
    parts: ['layers.{i}.router.selection_bias'],
  },
];
