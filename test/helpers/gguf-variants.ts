// Models that GGUF has words for, of sizes and options that no fixture has.
import { TINY_VOCABULARY } from './tiny-model.js';

type Words = Readonly<Record<string, unknown>>;

export interface GgufCase {
  readonly name: string;
  /** Words of the config that are others than the fixture's, where GGUF or llama.cpp has none for these. */
  readonly words?: Words;
  /** A config for random weights, instead of a fixture. */
  readonly random?: Words;
  /** Tensors of the variant, where a folder's tensors decide about it. */
  readonly has?: (tensor: string) => boolean;
  /** Largest difference from llama.cpp, by the largest value. */
  readonly tolerance?: number;
  /** What llama.cpp leaves out of its logits. */
  readonly factor?: number;
}
/** llama.cpp looks up GELU in a table of float16. */
export const GELU = 2e-3;

const T5 = {
  d_model: 32,
  d_kv: 11,
  d_ff: 40,
  num_layers: 3,
  num_decoder_layers: 2,
  num_heads: 4,
  relative_attention_num_buckets: 12,
  vocab_size: TINY_VOCABULARY,
  decoder_start_token_id: 0,
} as const;

const SMALL = {
  hidden_size: 48,
  num_hidden_layers: 3,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  intermediate_size: 40,
  vocab_size: TINY_VOCABULARY,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
} as const;
const SPARSE = { num_experts: 7, num_experts_per_tok: 3, moe_intermediate_size: 24 } as const;
const ROUTED = {
  n_routed_experts: 8,
  n_shared_experts: 2,
  num_experts_per_tok: 3,
  moe_intermediate_size: 24,
  first_k_dense_replace: 1,
} as const;
const LATENT = {
  // llama.cpp knows one epsilon only
  rms_norm_eps: 1e-6,
  num_key_value_heads: 6,
  kv_lora_rank: 20,
  qk_nope_head_dim: 10,
  qk_rope_head_dim: 6,
  v_head_dim: 14,
} as const;
const yarn = { type: 'yarn', factor: 4, original_max_position_embeddings: 64 } as const;

/**
 * Sizes and options that no fixture has. llama.cpp passes over YaRN's beta_fast and beta_slow and over OLMoE's clip_qkv, which our
 * files say, and computes PhiMoE with RMS norms and softmax routing.
 */
export const variants: readonly GgufCase[] = [
  {
    name: 'llama, linear',
    random: { model_type: 'llama', ...SMALL, rope_scaling: { type: 'linear', factor: 2 } },
  },
  { name: 'llama, YaRN', random: { model_type: 'llama', ...SMALL, rope_scaling: yarn } },
  {
    name: 'llama, YaRN with a factor, tied',
    random: {
      model_type: 'llama',
      ...SMALL,
      tie_word_embeddings: true,
      rope_scaling: { ...yarn, attention_factor: 1.7 },
    },
  },
  { name: 'llama, biases', random: { model_type: 'llama', ...SMALL, attention_bias: true } },
  {
    name: 'mistral, wide heads',
    random: { model_type: 'mistral', ...SMALL, head_dim: 14, sliding_window: null },
  },
  { name: 'qwen2', random: { model_type: 'qwen2', ...SMALL } },
  { name: 'qwen3, wide heads', random: { model_type: 'qwen3', ...SMALL, head_dim: 20, rope_scaling: yarn } },
  {
    name: 'qwen3_moe',
    random: { model_type: 'qwen3_moe', ...SMALL, ...SPARSE, head_dim: 8, norm_topk_prob: true },
  },
  {
    name: 'qwen2_moe',
    random: { model_type: 'qwen2_moe', ...SMALL, ...SPARSE, shared_expert_intermediate_size: 56 },
  },
  {
    name: 'mixtral',
    random: { model_type: 'mixtral', ...SMALL, num_local_experts: 5, num_experts_per_tok: 3 },
  },
  { name: 'deepseek', random: { model_type: 'deepseek', ...SMALL, ...ROUTED } },
  {
    name: 'deepseek_v2, no rank of queries, as deep as Lite',
    random: {
      model_type: 'deepseek_v2',
      ...SMALL,
      ...ROUTED,
      ...LATENT,
      num_hidden_layers: 27,
      q_lora_rank: null,
    },
    tolerance: 1e-4,
  },
  {
    name: 'deepseek_v2, magnitudes',
    random: {
      model_type: 'deepseek_v2',
      ...SMALL,
      ...ROUTED,
      ...LATENT,
      q_lora_rank: 18,
      rope_scaling: { ...yarn, mscale: 0.73, mscale_all_dim: 0.73 },
    },
  },
  {
    name: 'deepseek_v3, a prediction layer',
    random: {
      model_type: 'deepseek_v3',
      ...SMALL,
      ...ROUTED,
      ...LATENT,
      q_lora_rank: 18,
      n_group: 4,
      topk_group: 2,
      routed_scaling_factor: 2.5,
      num_nextn_predict_layers: 1,
      rope_scaling: { ...yarn, mscale: 1, mscale_all_dim: 1 },
    },
  },
  {
    name: 'glm4_moe, a prediction layer, no norm of queries',
    random: { model_type: 'glm4_moe', ...SMALL, ...ROUTED, head_dim: 8, num_nextn_predict_layers: 1 },
  },
  { name: 'glm4', random: { model_type: 'glm4', ...SMALL, head_dim: 12 } },
  { name: 'gemma', random: { model_type: 'gemma', ...SMALL, head_dim: 10 }, tolerance: GELU },
  {
    name: 'granitemoe',
    random: {
      model_type: 'granitemoe',
      ...SMALL,
      num_local_experts: 5,
      embedding_multiplier: 3,
      residual_multiplier: 0.5,
      attention_multiplier: 0.3,
      logits_scaling: 4,
    },
  },
  {
    name: 'gpt_oss',
    random: { model_type: 'gpt_oss', ...SMALL, num_local_experts: 5, head_dim: 10, sliding_window: 4 },
  },
  {
    name: 'bert',
    random: {
      model_type: 'bert',
      architectures: ['BertModel'],
      hidden_size: 48,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      intermediate_size: 40,
      max_position_embeddings: 70,
      type_vocab_size: 3,
      vocab_size: TINY_VOCABULARY,
    },
    tolerance: GELU,
  },
  {
    name: 't5, wide heads, untied',
    random: { model_type: 't5', ...T5, tie_word_embeddings: false, feed_forward_proj: 'relu' },
    has: (tensor) => tensor === 'lm_head.weight',
    tolerance: 2e-5,
  },
  { name: "t5's encoder", random: { model_type: 't5', ...T5, architectures: ['T5EncoderModel'] } },
];
