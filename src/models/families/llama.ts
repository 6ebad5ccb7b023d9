import { ACTIVATION_KEYS, type ConfigReader, type DecoderConfig, readRope } from '../config.js';
import { type Family, type LayerNames, whole } from '../family.js';

/** Llama 1 to 3 (Touvron et al. 2023): RMS norm before each block, rotary positions, SwiGLU, grouped keys. */
export const llama: Family = {
  modelType: 'llama',
  ggufArchitecture: 'llama',
  fromHuggingFace: (c) => readLlamaLike(c, 'llama'),
  huggingFaceNames: () => ({ ...llamaNames, layer: (i) => ({ ...attentionNames(i), ...denseNames(i) }) }),
};

/** Values of keys that a config leaves out, where a relative's differ from Llama's. */
export interface Defaults {
  readonly maxSeqLen?: number;
  readonly normEps?: number;
  readonly headDim?: number;
}

/** The keys that Llama shares with its many relatives. */
export function readLlamaLike(c: ConfigReader, family: string, defaults: Defaults = {}): DecoderConfig {
  const dModel = c.int('hidden_size', 'width');
  const nHeads = c.int('num_attention_heads', 'heads');
  const headDim = c.int('head_dim', 'width', defaults.headDim ?? Math.floor(dModel / nHeads));
  const maxSeqLen = c.int('max_position_embeddings', 'length', defaults.maxSeqLen ?? 2048);
  return {
    family,
    dModel,
    nLayers: c.int('num_hidden_layers', 'layers'),
    nHeads,
    nKvHeads: c.int('num_key_value_heads', 'heads', nHeads),
    headDim,
    dFf: c.int('intermediate_size', 'width'),
    vocabSize: c.int('vocab_size', 'vocabulary'),
    maxSeqLen,
    normEps: c.positive('rms_norm_eps', defaults.normEps ?? 1e-6),
    activation: c.oneOf('hidden_act', ACTIVATION_KEYS, 'silu'),
    rope: readRope(c, headDim, maxSeqLen),
    window: 0,
    tiedEmbeddings: c.bool('tie_word_embeddings', false),
    attentionBias: c.bool('attention_bias', false),
    qkNorm: null,
    clipQkv: null,
    feedForwardBias: c.bool('mlp_bias', false),
    moe: null,
    bosId: c.ids('bos_token_id')[0] ?? null,
    eosIds: c.ids('eos_token_id'),
  };
}

export const llamaNames = {
  embedding: 'model.embed_tokens.weight',
  finalNorm: 'model.norm.weight',
  head: 'lm_head.weight',
} as const;

export function attentionNames(i: number): Omit<LayerNames, 'gate' | 'up' | 'down'> {
  const layer = `model.layers.${i}.`;
  return {
    attentionNorm: `${layer}input_layernorm.weight`,
    q: `${layer}self_attn.q_proj.weight`,
    k: `${layer}self_attn.k_proj.weight`,
    v: `${layer}self_attn.v_proj.weight`,
    o: `${layer}self_attn.o_proj.weight`,
    feedForwardNorm: `${layer}post_attention_layernorm.weight`,
  };
}

export function headNormNames(i: number): Required<Pick<LayerNames, 'qNorm' | 'kNorm'>> {
  const at = (part: string): string => `model.layers.${i}.self_attn.${part}_norm.weight`;
  return { qNorm: at('q'), kNorm: at('k') };
}

export function denseNames(i: number): Pick<LayerNames, 'gate' | 'up' | 'down'> {
  const at = (part: string) => whole(`model.layers.${i}.mlp.${part}_proj.weight`);
  return { gate: at('gate'), up: at('up'), down: at('down') };
}
