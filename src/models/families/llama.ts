import { type DecoderConfig, rmsNorm, USUAL } from '../decoder/config.js';
import type { Family } from '../family.js';
import { ACTIVATION_KEYS, type ConfigReader } from '../read/config-reader.js';
import { type NameTable, named } from '../read/names.js';
import { readRope } from '../read/read-rope.js';

/** Llama 1 to 3 (Touvron et al. 2023): RMS norm before each block, rotary positions, SwiGLU, grouped keys. */
export const llama: Family = {
  modelType: 'llama',
  ggufArchitecture: 'llama',
  ggufInterleaved: true,
  fromHuggingFace: (c) => readLlamaLike(c, 'llama'),
  huggingFaceNames: () => llamaNames,
};

/** Values of keys that a config leaves out, where a relative's differ from Llama's. */
export interface Defaults {
  readonly maxSeqLen?: number;
  readonly normEps?: number;
  readonly nKvHeads?: number;
  readonly headDim?: number;
  /** hidden_act */
  readonly activation?: string;
  readonly attentionBias?: boolean;
  readonly tied?: boolean;
  readonly theta?: number;
  /** Share of a head that turns. */
  readonly rotaryShare?: number;
  /** Rotary pairs are neighbours. */
  readonly interleaved?: boolean;
}

/** The keys that Llama shares with its many relatives. */
export function readLlamaLike(c: ConfigReader, family: string, defaults: Defaults = {}): DecoderConfig {
  const { maxSeqLen: length = 2048, normEps = 1e-6, tied = false, activation = 'silu' } = defaults;
  const dModel = c.int('hidden_size', 'width');
  const nHeads = c.int('num_attention_heads', 'heads');
  const headDim = c.int('head_dim', 'width', defaults.headDim ?? Math.floor(dModel / nHeads));
  const maxSeqLen = c.int('max_position_embeddings', 'length', length);
  const bias = c.bool('attention_bias', defaults.attentionBias ?? false);
  return {
    ...USUAL,
    family,
    dModel,
    nLayers: c.int('num_hidden_layers', 'layers'),
    nHeads,
    nKvHeads: c.int('num_key_value_heads', 'heads', defaults.nKvHeads ?? nHeads),
    headDim,
    dFf: c.int('intermediate_size', 'width'),
    vocabSize: c.int('vocab_size', 'vocabulary'),
    maxSeqLen,
    norm: rmsNorm(c.positive('rms_norm_eps', normEps)),
    dEmbedding: dModel,
    activation: c.oneOf('hidden_act', ACTIVATION_KEYS, activation),
    rope: readRope(c, headDim, maxSeqLen, defaults),
    tiedEmbeddings: c.bool('tie_word_embeddings', tied),
    queryKeyValueBias: bias,
    outputBias: bias,
    feedForwardBias: c.bool('mlp_bias', false),
    bosId: c.ids('bos_token_id')[0] ?? null,
    eosIds: c.ids('eos_token_id'),
  };
}

const ROOT = { embedding: 'model.embed_tokens', final_norm: 'model.norm', head: 'lm_head' } as const;

const LAYER = {
  attention_norm: 'input_layernorm',
  'attention.q': 'self_attn.q_proj',
  'attention.k': 'self_attn.k_proj',
  'attention.v': 'self_attn.v_proj',
  'attention.o': 'self_attn.o_proj',
  'attention.q_norm': 'self_attn.q_norm',
  'attention.k_norm': 'self_attn.k_norm',
  feed_forward_norm: 'post_attention_layernorm',
  'feed_forward.gate': 'mlp.gate_proj',
  'feed_forward.up': 'mlp.up_proj',
  'feed_forward.down': 'mlp.down_proj',
} as const;

/** The names of a dense model; they hold for most relatives too. */
export const llamaNames: NameTable = [...named(ROOT), ...named(LAYER, 'layers.{i}.', 'model.layers.{i}.')];
