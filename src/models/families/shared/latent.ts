import { yarnMagnitude } from '../../../nn/rope.js';
import type { DecoderConfig } from '../../decoder/config.js';
import type { ConfigReader } from '../../read/config-reader.js';
import { type NameTable, named } from '../../read/names.js';
import { readLlamaLike } from '../llama.js';

/** The norms of the small vectors have an epsilon of their own, whatever the config says of the others. */
const LATENT_EPS = 1e-6;

/** A Llama-like config whose attention is latent (DeepSeek-AI 2024, DeepSeek-V2, section 2.1). */
export function readLatentLike(
  c: ConfigReader,
  family: string,
  { maxSeqLen, interleaved }: { maxSeqLen: number; interleaved: boolean },
): DecoderConfig {
  const rotaryDim = c.int('qk_rope_head_dim', 'width', 64);
  const headDim = c.int('qk_nope_head_dim', 'width', 128) + rotaryDim;
  c.only('head_dim', rotaryDim);
  c.only('qk_head_dim', headDim);
  c.raw('ep_size'); // how training spread experts
  const base = readLlamaLike(c, family, { maxSeqLen, headDim: rotaryDim, interleaved });
  const scaling = base.rope?.scaling;
  const stretch = scaling?.type === 'yarn' && scaling.mscaleAllDim ? scaling : null;
  const magnitude = stretch ? yarnMagnitude(stretch.factor, stretch.mscaleAllDim as number) : 1;
  return {
    ...base,
    headDim,
    attentionScale: magnitude ** 2 / Math.sqrt(headDim),
    latent: {
      queryRank: queryRank(c),
      rank: c.int('kv_lora_rank', 'width', 512),
      rotaryDim,
      valueDim: c.int('v_head_dim', 'width', 128),
      normEps: LATENT_EPS,
    },
  };
}

function queryRank(c: ConfigReader): number | null {
  c.raw('q_lora_rank');
  return c.source.q_lora_rank === null ? null : c.int('q_lora_rank', 'width', 1536);
}

const OURS = 'layers.{i}.';
const THEIRS = 'model.layers.{i}.';

/** Keys and values of each head out of the small vector, in one matrix [H · (plain + value), rank]. */
export const latentUp = (tensor: string) => ({
  tensor,
  parts: [`${OURS}attention.k_up.weightᵀ`, `${OURS}attention.v_up.weight`],
  flat: true,
});

export const latentNames: NameTable = [
  ...named(
    {
      'attention.q': 'self_attn.q_proj',
      'attention.q_down': 'self_attn.q_a_proj',
      'attention.q_down_norm': 'self_attn.q_a_layernorm',
      'attention.q_up': 'self_attn.q_b_proj',
      'attention.kv_down': 'self_attn.kv_a_proj_with_mqa',
      'attention.kv_down_norm': 'self_attn.kv_a_layernorm',
    },
    OURS,
    THEIRS,
  ),
  latentUp(`${THEIRS}self_attn.kv_b_proj.weight`),
];

/** Layers behind the last, which predict tokens further ahead. */
export const predictionNames: NameTable = named(
  { token_norm: 'enorm', hidden_norm: 'hnorm', projection: 'eh_proj', head_norm: 'shared_head.norm' },
  OURS,
  THEIRS,
);
