/** A decoder's config as GGUF metadata. */
import type { GgufValueToWrite } from '../../checkpoint/gguf-write.js';
import { mismatch } from '../../core/errors.js';
import { gatingForm } from '../../moe/gating/index.js';
import { type RopeConfig, ropeFrequencies } from '../../nn/rope.js';
import type { DecoderConfig } from '../config.js';
import { ConfigReader } from '../config-reader.js';
import type { Family } from '../family.js';
import { allKeys } from './config-json.js';

/** Keys of the format and what config.json calls the same; the reader's table is `asConfig` in ../gguf.ts. */
const KEYS: readonly (readonly [gguf: string, json: string, float?: 'float'])[] = [
  ['embedding_length', 'hidden_size'],
  ['nextn_predict_layers', 'num_nextn_predict_layers'],
  ['attention.head_count', 'num_attention_heads'],
  ['attention.head_count_kv', 'num_key_value_heads'],
  ['attention.key_length', 'head_dim'],
  ['feed_forward_length', 'intermediate_size'],
  ['vocab_size', 'vocab_size'],
  ['context_length', 'max_position_embeddings'],
  ['attention.layer_norm_rms_epsilon', 'rms_norm_eps', 'float'],
  ['attention.layer_norm_epsilon', 'layer_norm_epsilon', 'float'],
  ['rope.freq_base', 'rope_theta', 'float'],
  ['expert_feed_forward_length', 'moe_intermediate_size'],
  ['expert_count', 'num_local_experts'],
  ['expert_used_count', 'num_experts_per_tok'],
  ['expert_shared_count', 'n_shared_experts'],
  ['expert_shared_feed_forward_length', 'shared_expert_intermediate_size'],
  ['leading_dense_block_count', 'first_k_dense_replace'],
  ['expert_weights_norm', 'norm_topk_prob'],
  ['expert_weights_scale', 'routed_scaling_factor', 'float'],
  ['expert_group_count', 'n_group'],
  ['expert_group_used_count', 'topk_group'],
  ['attention.clamp_kqv', 'clip_qkv', 'float'],
  ['attention.sliding_window', 'sliding_window'],
  ['attention.scale', 'attention_multiplier', 'float'],
  ['residual_scale', 'residual_multiplier', 'float'],
  ['embedding_scale', 'embedding_multiplier', 'float'],
  ['logit_scale', 'logits_scaling', 'float'],
];

/** Numbers of scoring functions in files. */
const SCORING: Readonly<Record<string, number>> = {
  'softmax-top-k': 1,
  'sigmoid-top-k': 2,
  'top-k-softmax': 3,
};

export function ggufMetadata(config: DecoderConfig, family: Family): Map<string, GgufValueToWrite> {
  const arch = family.ggufArchitecture as string;
  const all = allKeys(config);
  const reader = new ConfigReader({ ...all, ...family.ggufImplies }, 'GGUF');
  family.fromHuggingFace(reader);
  const values = new Map<string, GgufValueToWrite>([['general.architecture', arch]]);
  const put = (key: string, value: GgufValueToWrite) => values.set(`${arch}.${key}`, value);
  for (const [key, json, float] of KEYS) {
    const value = all[json] as number | boolean | undefined;
    if (value === undefined || !reader.reads(json)) continue;
    put(key, float ? { f32: value as number } : value);
  }
  // Prediction layers count among the blocks.
  put('block_count', config.nLayers + config.nPredictionLayers);
  put('attention.value_length', config.headDim);
  if (config.moe !== null && reader.reads('scoring_func')) {
    const { name } = gatingForm(config.moe.gating);
    if (SCORING[name] !== undefined) put('expert_gating_func', SCORING[name]);
  }
  if (config.rope !== null)
    for (const [key, value] of ropeValues(config.rope, config.maxSeqLen)) put(key, value);
  return values;
}

function ropeValues({ dim, scaling }: RopeConfig, maxSeqLen: number): [string, GgufValueToWrite][] {
  const values: [string, GgufValueToWrite][] = [['rope.dimension_count', dim]];
  switch (scaling.type) {
    case 'default':
    // The divisors are a tensor.
    case 'llama3':
    case 'factors':
      return values;
    case 'linear':
      return [...values, ['rope.scaling.type', 'linear'], ['rope.scaling.factor', { f32: scaling.factor }]];
    case 'yarn':
      return [
        ...values,
        ['rope.scaling.type', 'yarn'],
        ['rope.scaling.factor', { f32: scaling.factor }],
        ['rope.scaling.original_context_length', scaling.originalMaxSeqLen],
        ...(scaling.attentionFactor === null
          ? []
          : [['rope.scaling.attn_factor', { f32: scaling.attentionFactor }] as [string, GgufValueToWrite]]),
      ];
    default:
      throw mismatch(
        'ERR_UNSUPPORTED',
        'save',
        `rotary scaling '${scaling.type}' for ${maxSeqLen} tokens`,
        'one that GGUF has',
      );
  }
}

/** The divisors of rotary frequencies, where a file holds them as a tensor. */
export function ropeFactors({ rope, maxSeqLen }: DecoderConfig): Float32Array | null {
  if (rope?.scaling.type === 'factors') return Float32Array.from(rope.scaling.factors);
  if (rope?.scaling.type !== 'llama3') return null;
  const { frequencies } = ropeFrequencies(rope, maxSeqLen);
  const { frequencies: plain } = ropeFrequencies({ ...rope, scaling: { type: 'default' } }, maxSeqLen);
  return plain.map((f, i) => f / (frequencies[i] as number));
}
