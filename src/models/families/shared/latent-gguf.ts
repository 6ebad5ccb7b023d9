import type { DecoderConfig, LatentConfig } from '../../decoder/config.js';
import type { OwnKeys } from '../../family.js';
import { type GgufValues, shortestFloat } from '../../gguf/keys.js';

const ARCH = 'deepseek2';

/**
 * Sizes of latent attention in GGUF files. Where keys and values have matrices of their own, as in all newer files, heads are
 * told as those of the small vectors, which all heads share; the heads themselves have keys of their own.
 */
export const latentGguf: OwnKeys = {
  read(m) {
    const int = (key: string): number | undefined => m.getInt(`${ARCH}.${key}`, undefined);
    const rotaryDim = int('rope.dimension_count');
    const keyLength = int('attention.key_length_mla') ?? int('attention.key_length');
    const groups = int('expert_group_count') ?? 1;
    const factor = m.getFloat(`${ARCH}.rope.scaling.factor`, 1);
    const logarithm = m.getFloat(`${ARCH}.rope.scaling.yarn_log_multiplier`, 0);
    const magnitude = shortestFloat(Math.fround(logarithm / 0.1));
    return {
      head_dim: rotaryDim,
      num_key_value_heads: int('attention.head_count'),
      qk_rope_head_dim: rotaryDim,
      qk_nope_head_dim:
        keyLength === undefined || rotaryDim === undefined ? undefined : keyLength - rotaryDim,
      v_head_dim: int('attention.value_length_mla') ?? int('attention.value_length'),
      kv_lora_rank: int('attention.kv_lora_rank'),
      q_lora_rank: int('attention.q_lora_rank') ?? null,
      topk_method: groups > 1 ? 'group_limited_greedy' : 'greedy',
      rope_scaling:
        magnitude === 0 ? undefined : { type: 'yarn', factor, mscale: magnitude, mscale_all_dim: magnitude },
    };
  },
  write({ headDim, latent }: DecoderConfig): GgufValues {
    const { queryRank, rank, rotaryDim, valueDim } = latent as LatentConfig;
    const values: Readonly<Record<string, number | null>> = {
      head_count_kv: 1,
      key_length: rank + rotaryDim,
      value_length: rank,
      key_length_mla: headDim,
      value_length_mla: valueDim,
      kv_lora_rank: rank,
      q_lora_rank: queryRank,
    };
    return new Map(
      Object.entries(values).flatMap(([key, value]) =>
        value === null ? [] : [[`${ARCH}.attention.${key}`, value]],
      ),
    );
  },
};
