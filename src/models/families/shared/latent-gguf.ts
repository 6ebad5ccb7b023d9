import type { GgufMetadata } from '../../../checkpoint/gguf-metadata.js';

const ARCH = 'deepseek2';

/** Sizes of latent attention in GGUF files, in the vocabulary of config.json. */
export function latentGgufKeys(m: GgufMetadata): Record<string, unknown> {
  const int = (key: string): number | undefined => m.getInt(`${ARCH}.${key}`, undefined);
  const rotaryDim = int('rope.dimension_count');
  // where keys and values have matrices of their own, the plain lengths are those of the small vectors
  const keyLength = int('attention.key_length_mla') ?? int('attention.key_length');
  const groups = int('expert_group_count') ?? 1;
  const factor = m.getFloat(`${ARCH}.rope.scaling.factor`, 1);
  const magnitude = m.getFloat(`${ARCH}.rope.scaling.yarn_log_multiplier`, 0) / 0.1;
  const sigmoid = int('expert_gating_func') === 2;
  return {
    head_dim: rotaryDim,
    num_key_value_heads: int('attention.head_count'),
    qk_rope_head_dim: rotaryDim,
    qk_nope_head_dim: keyLength === undefined || rotaryDim === undefined ? undefined : keyLength - rotaryDim,
    v_head_dim: int('attention.value_length_mla') ?? int('attention.value_length'),
    kv_lora_rank: int('attention.kv_lora_rank'),
    q_lora_rank: int('attention.q_lora_rank') ?? null,
    topk_method: sigmoid ? 'noaux_tc' : groups > 1 ? 'group_limited_greedy' : 'greedy',
    rope_scaling:
      magnitude === 0 ? undefined : { type: 'yarn', factor, mscale: magnitude, mscale_all_dim: magnitude },
  };
}
