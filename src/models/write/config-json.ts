/** A decoder's config in the words of config.json, for models that did not come with one. */
import { gatingForm } from '../../moe/gating/index.js';
import type { RopeConfig } from '../../nn/rope.js';
import type { DecoderConfig, MoEConfig } from '../decoder/config.js';
import type { Family } from '../family.js';
import { ACTIVATION_KEYS, ConfigReader } from '../read/config-reader.js';

export type ConfigJson = Record<string, unknown>;

/** Every key that some family has for what the config says; most families know a part of them. */
export function allKeys(config: DecoderConfig): ConfigJson {
  const { moe, rope, norm } = config;
  const eos = config.eosIds.length > 1 ? config.eosIds : config.eosIds[0];
  const json: ConfigJson = {
    bos_token_id: config.bosId ?? undefined,
    eos_token_id: eos,
    vocab_size: config.vocabSize,
    hidden_size: config.dModel,
    num_hidden_layers: config.nLayers,
    num_attention_heads: config.nHeads,
    num_key_value_heads: config.nKvHeads,
    head_dim: config.latent?.rotaryDim ?? config.headDim,
    ...latentKeys(config),
    intermediate_size: config.dFf,
    max_position_embeddings: config.maxSeqLen,
    hidden_act: Object.keys(ACTIVATION_KEYS).find((key) => ACTIVATION_KEYS[key] === config.activation),
    rms_norm_eps: norm.eps,
    layer_norm_epsilon: norm.eps,
    tie_word_embeddings: config.tiedEmbeddings,
    attention_bias: config.queryKeyValueBias,
    qkv_bias: config.queryKeyValueBias,
    mlp_bias: config.feedForwardBias,
    lm_head_bias: config.headBias,
    use_qk_norm: config.qkNorm === 'head',
    clip_qkv: config.clipQkv ?? undefined,
    sliding_window: config.window || undefined,
    use_sliding_window: config.window > 0 || undefined,
    attention_multiplier: config.attentionScale ?? undefined,
    residual_multiplier: config.residualScale,
    embedding_multiplier: config.embeddingScale,
    logits_scaling: 1 / config.logitScale,
    num_nextn_predict_layers: config.nPredictionLayers || undefined,
    ...(rope ? ropeKeys(rope, config.latent?.rotaryDim ?? config.headDim) : {}),
    ...(moe ? expertKeys(moe, config.nLayers) : {}),
  };
  return Object.fromEntries(Object.entries(json).filter(([, value]) => value !== undefined));
}

/** DeepSeek's words for how experts are chosen. */
const TOP_K_METHODS: Readonly<Record<string, string>> = {
  'softmax-top-k': 'greedy',
  'group-limited-greedy': 'group_limited_greedy',
  'sigmoid-top-k': 'noaux_tc',
};

function latentKeys({ latent, headDim }: DecoderConfig): ConfigJson {
  if (latent === null) return {};
  return {
    q_lora_rank: latent.queryRank,
    kv_lora_rank: latent.rank,
    qk_rope_head_dim: latent.rotaryDim,
    qk_nope_head_dim: headDim - latent.rotaryDim,
    v_head_dim: latent.valueDim,
  };
}

function expertKeys(moe: MoEConfig, nLayers: number): ConfigJson {
  const { name, options } = gatingForm(moe.gating) as { name: string; options: Record<string, unknown> };
  const dense = Array.from({ length: nLayers }, (_, i) => i).filter((i) => !moe.layers.includes(i));
  const first = dense.every((layer, i) => layer === i) ? dense.length : undefined;
  const shared = moe.dFfShared / moe.dFf;
  return {
    num_experts: moe.nExperts,
    num_local_experts: moe.nExperts,
    n_routed_experts: moe.nExperts,
    num_experts_per_tok: moe.topK,
    moe_intermediate_size: moe.dFf,
    norm_topk_prob: options.renormalize,
    routed_scaling_factor: options.scale,
    n_group: options.groups,
    topk_group: options.topGroups,
    topk_method: TOP_K_METHODS[name],
    router_jitter_noise: options.jitter,
    n_shared_experts: Number.isInteger(shared) ? shared : undefined,
    shared_expert_intermediate_size: moe.dFfShared || undefined,
    first_k_dense_replace: first,
    mlp_only_layers: dense,
  };
}

function ropeKeys({ theta, dim, scaling }: RopeConfig, headDim: number): ConfigJson {
  const keys: ConfigJson = {
    rope_theta: theta,
    partial_rotary_factor: dim === headDim ? undefined : dim / headDim,
  };
  switch (scaling.type) {
    case 'default':
      return keys;
    case 'linear':
      return { ...keys, rope_scaling: { rope_type: 'linear', factor: scaling.factor } };
    case 'dynamic':
      return {
        ...keys,
        rope_scaling: {
          rope_type: 'dynamic',
          factor: scaling.factor,
          original_max_position_embeddings: scaling.originalMaxSeqLen,
        },
      };
    case 'llama3':
      return {
        ...keys,
        rope_scaling: {
          rope_type: 'llama3',
          factor: scaling.factor,
          low_freq_factor: scaling.lowFreqFactor,
          high_freq_factor: scaling.highFreqFactor,
          original_max_position_embeddings: scaling.originalMaxSeqLen,
        },
      };
    case 'yarn':
      return {
        ...keys,
        rope_scaling: {
          rope_type: 'yarn',
          factor: scaling.factor,
          original_max_position_embeddings: scaling.originalMaxSeqLen,
          beta_fast: scaling.betaFast,
          beta_slow: scaling.betaSlow,
          ...(scaling.attentionFactor === null ? {} : { attention_factor: scaling.attentionFactor }),
          ...(scaling.mscale === null ? {} : { mscale: scaling.mscale }),
          ...(scaling.mscaleAllDim === null ? {} : { mscale_all_dim: scaling.mscaleAllDim }),
          ...(scaling.truncate ? {} : { truncate: false }),
        },
      };
    case 'longrope':
      return {
        ...keys,
        original_max_position_embeddings: scaling.originalMaxSeqLen,
        rope_scaling: {
          rope_type: 'longrope',
          short_factor: scaling.shortFactors,
          long_factor: scaling.longFactors,
          attention_factor: scaling.attentionFactor,
          ...(scaling.shortScale === null ? {} : { short_mscale: scaling.shortScale }),
          ...(scaling.longScale === null ? {} : { long_mscale: scaling.longScale }),
        },
      };
    case 'factors':
      // config.json has no words for divisors by themselves: what is read back will differ, and be refused.
      return keys;
  }
}

/** The keys that a family reads, of those that are given. */
export function keysOf(family: Family, json: ConfigJson, where: string): ConfigJson {
  const reader = new ConfigReader(json, where);
  family.fromHuggingFace(reader);
  return Object.fromEntries(
    Object.entries(json).filter(([key]) => reader.reads(key) || BOOKKEEPING.has(key)),
  );
}

const BOOKKEEPING: ReadonlySet<string> = new Set(['bos_token_id', 'eos_token_id']);
