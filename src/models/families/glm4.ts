import type { Family } from '../family.js';
import { fused, named } from '../read/names.js';
import { llamaNames, readLlamaLike } from './llama.js';

const OURS = 'layers.{i}.';
const GATE_UP = [`${OURS}feed_forward.gate`, `${OURS}feed_forward.up`];

/** GLM-4 0414, dense (GLM Team 2024): norms before and behind attention and feed-forward, half of each head turns. */
export const glm4: Family = {
  modelType: 'glm4',
  ggufArchitecture: 'glm4',
  ggufInterleaved: true,
  ggufImplies: { attention_bias: false },
  ggufNames: fused('blk.{i}.ffn_up', GATE_UP),
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'glm4', {
      maxSeqLen: 131072,
      normEps: 1.5625e-7,
      nKvHeads: 2,
      headDim: 128,
      rotaryShare: 0.5,
      attentionBias: true,
      interleaved: true,
    });
    return { ...base, block: 'sandwich', outputBias: false };
  },
  huggingFaceNames: () => [
    ...named(NORMS, OURS, 'model.layers.{i}.'),
    ...fused('model.layers.{i}.mlp.gate_up_proj', GATE_UP),
    ...llamaNames,
  ],
};

const NORMS = {
  attention_post_norm: 'post_self_attn_layernorm',
  feed_forward_post_norm: 'post_mlp_layernorm',
} as const;
