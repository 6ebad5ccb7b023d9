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
  const [width, heads] = [int('embedding_length'), int('attention.head_count')];
  const equalShare = width && heads ? Math.floor(width / heads) : undefined;
  return {
    hidden_size: width,
    num_hidden_layers: int('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: int('attention.head_count_kv'),
    head_dim: int('attention.key_length') ?? equalShare,
    intermediate_size: int('feed_forward_length'),
    moe_intermediate_size: int('expert_feed_forward_length') || undefined,
    vocab_size: int('vocab_size') ?? m.getStringArray('tokenizer.ggml.tokens', undefined)?.length,
    max_position_embeddings: int('context_length'),
    rms_norm_eps: float('attention.layer_norm_rms_epsilon'),
    rope_theta: float('rope.freq_base'),
    num_local_experts: int('expert_count') || undefined,
    num_experts_per_tok: int('expert_used_count') || undefined,
    norm_topk_prob: m.getBool(`${arch}.expert_weights_norm`, undefined),
    clip_qkv: float('attention.clamp_kqv') || undefined,
    sliding_window: int('attention.sliding_window') || undefined,
    bos_token_id: m.getInt('tokenizer.ggml.bos_token_id', undefined),
    eos_token_id: m.getInt('tokenizer.ggml.eos_token_id', undefined),
  };
}

function scaling(m: GgufMetadata, arch: string, maxSeqLen: number): RopeScaling {
  const type = m.getString(`${arch}.rope.scaling.type`, 'none');
  const factor = m.getFloat(`${arch}.rope.scaling.factor`, 1);
  if (type === 'none') return { type: 'default' };
  if (type === 'linear') return { type, factor };
  if (type === 'yarn') {
    const originalMaxSeqLen = m.getInt(`${arch}.rope.scaling.original_context_length`, maxSeqLen);
    const attentionFactor = m.getFloat(`${arch}.rope.scaling.attn_factor`, undefined) ?? null;
    return {
      type,
      factor,
      originalMaxSeqLen,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor,
      mscale: null,
      mscaleAllDim: null,
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
  const written = Object.entries(asConfig(metadata, arch)).filter(([, value]) => value !== undefined);
  const reader = new ConfigReader({ ...family.ggufImplies, ...Object.fromEntries(written) }, path);
  const config = family.fromHuggingFace(reader);
  reader.finish();
  return {
    ...config,
    tiedEmbeddings: !tensors.has('output.weight'),
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
