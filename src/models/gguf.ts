/** Config of GGUF files: one scheme for all architectures. */
import type { GgufCheckpoint } from '../checkpoint/folder.js';
import type { GgufMetadata } from '../checkpoint/gguf-metadata.js';
import { SwitchyardError } from '../core/errors.js';
import type { RopeScaling } from '../nn/rope.js';
import type { DecoderConfig } from './config.js';
import { ConfigReader } from './config-reader.js';
import type { Family } from './family.js';

/** The divisors of rotary frequencies. */
export const ROPE_FACTORS = 'rope_freqs.weight';

/** GGUF metadata in the vocabulary of config.json, so that one reader checks both. */
function asConfig(m: GgufMetadata, arch: string): Record<string, unknown> {
  const int = (key: string): number | undefined => m.getInt(`${arch}.${key}`, undefined);
  const float = (key: string): number | undefined => m.getFloat(`${arch}.${key}`, undefined);
  const predicted = int('nextn_predict_layers');
  const blocks = int('block_count');
  return {
    hidden_size: int('embedding_length'),
    // files count the prediction layers among the blocks
    num_hidden_layers: blocks === undefined ? undefined : blocks - (predicted ?? 0),
    num_nextn_predict_layers: predicted,
    num_attention_heads: int('attention.head_count'),
    num_key_value_heads: int('attention.head_count_kv'),
    head_dim: int('attention.key_length'),
    intermediate_size: int('feed_forward_length'),
    vocab_size: int('vocab_size') ?? m.getStringArray('tokenizer.ggml.tokens', undefined)?.length,
    max_position_embeddings: int('context_length'),
    rms_norm_eps: float('attention.layer_norm_rms_epsilon'),
    layer_norm_epsilon: float('attention.layer_norm_epsilon'),
    rope_theta: float('rope.freq_base'),
    moe_intermediate_size: int('expert_feed_forward_length') || undefined,
    num_local_experts: int('expert_count') || undefined,
    num_experts_per_tok: int('expert_used_count') || undefined,
    n_shared_experts: int('expert_shared_count') || undefined,
    shared_expert_intermediate_size: int('expert_shared_feed_forward_length') || undefined,
    first_k_dense_replace: int('leading_dense_block_count'),
    norm_topk_prob: m.getBool(`${arch}.expert_weights_norm`, undefined),
    routed_scaling_factor: float('expert_weights_scale') || undefined,
    scoring_func: scoring(m, int('expert_gating_func')),
    n_group: int('expert_group_count') || undefined,
    topk_group: int('expert_group_used_count') || undefined,
    clip_qkv: float('attention.clamp_kqv') || undefined,
    sliding_window: int('attention.sliding_window') || undefined,
    attention_multiplier: float('attention.scale') || undefined,
    residual_multiplier: float('residual_scale') || undefined,
    embedding_multiplier: float('embedding_scale') || undefined,
    logits_scaling: float('logit_scale') || undefined,
    bos_token_id: m.getInt('tokenizer.ggml.bos_token_id', undefined),
    eos_token_id: m.getInt('tokenizer.ggml.eos_token_id', undefined),
  };
}

/** The format's numbers of scoring functions, from 1 on. */
const SCORING = ['softmax', 'sigmoid', 'softmax_of_chosen'];

function scoring({ path }: GgufMetadata, code: number | undefined): string | undefined {
  if (!code) return undefined; // 0: not said
  const name = SCORING[code - 1];
  if (name !== undefined) return name;
  throw new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[${path}] got expert_gating_func ${code}, expected 1 to ${SCORING.length}`,
  );
}

function scaling(m: GgufMetadata, arch: string, maxSeqLen: number): RopeScaling {
  const type = m.getString(`${arch}.rope.scaling.type`, 'none');
  const factor = m.getFloat(`${arch}.rope.scaling.factor`, 1);
  if (type === 'none') return { type: 'default' };
  if (type === 'linear') return { type, factor };
  if (type === 'yarn') {
    const originalMaxSeqLen = m.getInt(`${arch}.rope.scaling.original_context_length`, maxSeqLen);
    const logarithmic = m.getFloat(`${arch}.rope.scaling.yarn_log_multiplier`, 0);
    // the factor of YaRN's 0.1·s·ln(factor) + 1
    const magnitude = logarithmic === 0 ? null : logarithmic / 0.1;
    const attentionFactor = m.getFloat(`${arch}.rope.scaling.attn_factor`, undefined) ?? null;
    return {
      type,
      factor,
      originalMaxSeqLen,
      betaFast: m.getFloat(`${arch}.rope.scaling.yarn_beta_fast`, 32),
      betaSlow: m.getFloat(`${arch}.rope.scaling.yarn_beta_slow`, 1),
      attentionFactor,
      // files keep one magnitude, for models whose two are equal
      mscale: magnitude,
      mscaleAllDim: magnitude,
      truncate: true,
    };
  }
  throw new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[${m.path}] got ${arch}.rope.scaling.type '${type}', expected none, linear or yarn`,
  );
}

export function ggufConfig({ metadata, tensors, path }: GgufCheckpoint, family: Family): DecoderConfig {
  const arch = family.ggufArchitecture as string;
  const said = { ...asConfig(metadata, arch), ...family.ggufKeys?.(metadata) };
  const written = Object.entries(said).filter(([, value]) => value !== undefined);
  const reader = new ConfigReader({ ...family.ggufImplies, ...Object.fromEntries(written) }, path);
  const config = family.fromHuggingFace(reader);
  reader.finish();
  return {
    ...config,
    tiedEmbeddings: !tensors.has('output.weight'),
    // some architectures have norms of queries and keys in their larger models only
    qkNorm: config.qkNorm ?? (tensors.has('blk.0.attn_q_norm.weight') ? 'head' : null),
    rope: config.rope && {
      ...config.rope,
      dim: metadata.getInt(`${arch}.rope.dimension_count`, config.rope.dim),
      interleaved: family.ggufInterleaved ?? false,
      scaling: tensors.has(ROPE_FACTORS)
        ? { type: 'factors', factors: [] }
        : scaling(metadata, arch, config.maxSeqLen),
    },
  };
}
