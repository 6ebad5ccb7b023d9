// Configs of published encoders and encoder-decoders, as their repositories have them: every key is understood, and the parts
// add up to the published size.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../../src/core/errors.js';
import { sumParameters } from '../../../src/inspect/parameters.js';
import { activeShare } from '../../../src/models/stacks.js';
import { describeConfig } from '../../helpers/random-folder.js';

interface Published {
  readonly config: Readonly<Record<string, unknown>>;
  /** Tensors that decide about variants. */
  readonly has?: readonly string[];
  /** Millions of parameters, as counted or as the paper rounds them. */
  readonly millions: number;
  readonly active?: number;
}

const T5_SMALL = {
  architectures: ['T5ForConditionalGeneration'],
  d_ff: 2048,
  d_kv: 64,
  d_model: 512,
  decoder_start_token_id: 0,
  dropout_rate: 0.1,
  eos_token_id: 1,
  initializer_factor: 1.0,
  is_encoder_decoder: true,
  layer_norm_epsilon: 1e-6,
  model_type: 't5',
  n_positions: 512,
  num_heads: 8,
  num_layers: 6,
  output_past: true,
  pad_token_id: 0,
  relative_attention_num_buckets: 32,
  task_specific_params: { translation_en_to_de: { prefix: 'translate English to German: ' } },
  vocab_size: 32128,
};

const PUBLISHED: Readonly<Record<string, Published>> = {
  'bert-base-uncased': {
    config: {
      architectures: ['BertForMaskedLM'],
      attention_probs_dropout_prob: 0.1,
      gradient_checkpointing: false,
      hidden_act: 'gelu',
      hidden_dropout_prob: 0.1,
      hidden_size: 768,
      initializer_range: 0.02,
      intermediate_size: 3072,
      layer_norm_eps: 1e-12,
      max_position_embeddings: 512,
      model_type: 'bert',
      num_attention_heads: 12,
      num_hidden_layers: 12,
      pad_token_id: 0,
      position_embedding_type: 'absolute',
      transformers_version: '4.6.0.dev0',
      type_vocab_size: 2,
      use_cache: true,
      vocab_size: 30522,
    },
    millions: 109.51,
  },
  'all-MiniLM-L6-v2': {
    config: {
      _name_or_path: 'nreimers/MiniLM-L6-H384-uncased',
      architectures: ['BertModel'],
      attention_probs_dropout_prob: 0.1,
      gradient_checkpointing: false,
      hidden_act: 'gelu',
      hidden_dropout_prob: 0.1,
      hidden_size: 384,
      initializer_range: 0.02,
      intermediate_size: 1536,
      layer_norm_eps: 1e-12,
      max_position_embeddings: 512,
      model_type: 'bert',
      num_attention_heads: 12,
      num_hidden_layers: 6,
      pad_token_id: 0,
      position_embedding_type: 'absolute',
      transformers_version: '4.8.2',
      type_vocab_size: 2,
      use_cache: true,
      vocab_size: 30522,
    },
    has: ['pooler.dense.weight'],
    millions: 22.71,
  },
  't5-small': { config: T5_SMALL, millions: 60.51 },
  'flan-t5-small': {
    config: {
      ...T5_SMALL,
      d_ff: 1024,
      num_layers: 8,
      num_decoder_layers: 8,
      num_heads: 6,
      dense_act_fn: 'gelu_new',
      feed_forward_proj: 'gated-gelu',
      is_gated_act: true,
      relative_attention_max_distance: 128,
      tie_word_embeddings: false,
      torch_dtype: 'float32',
      transformers_version: '4.23.1',
      use_cache: true,
    },
    has: ['lm_head.weight'],
    millions: 76.96,
  },
  'bart-large-cnn': {
    config: {
      _num_labels: 3,
      activation_dropout: 0.0,
      activation_function: 'gelu',
      add_final_layer_norm: false,
      architectures: ['BartForConditionalGeneration'],
      attention_dropout: 0.0,
      bos_token_id: 0,
      classif_dropout: 0.0,
      classifier_dropout: 0.0,
      d_model: 1024,
      decoder_attention_heads: 16,
      decoder_ffn_dim: 4096,
      decoder_layerdrop: 0.0,
      decoder_layers: 12,
      decoder_start_token_id: 2,
      dropout: 0.1,
      early_stopping: true,
      encoder_attention_heads: 16,
      encoder_ffn_dim: 4096,
      encoder_layerdrop: 0.0,
      encoder_layers: 12,
      eos_token_id: 2,
      force_bos_token_to_be_generated: true,
      forced_bos_token_id: 0,
      forced_eos_token_id: 2,
      gradient_checkpointing: false,
      id2label: { 0: 'LABEL_0', 1: 'LABEL_1', 2: 'LABEL_2' },
      init_std: 0.02,
      is_encoder_decoder: true,
      length_penalty: 2.0,
      max_length: 142,
      max_position_embeddings: 1024,
      min_length: 56,
      model_type: 'bart',
      no_repeat_ngram_size: 3,
      normalize_before: false,
      num_beams: 4,
      num_hidden_layers: 12,
      output_past: true,
      pad_token_id: 1,
      prefix: ' ',
      scale_embedding: false,
      use_cache: true,
      vocab_size: 50264,
    },
    millions: 406.29,
  },
  'switch-base-8': {
    config: {
      add_router_probs: false,
      architectures: ['SwitchTransformersForConditionalGeneration'],
      d_ff: 3072,
      d_kv: 64,
      d_model: 768,
      decoder_sparse_step: 2,
      decoder_start_token_id: 0,
      dense_act_fn: 'relu',
      dropout_rate: 0.1,
      encoder_sparse_step: 2,
      eos_token_id: 1,
      expert_capacity: 64,
      feed_forward_proj: 'relu',
      initializer_factor: 1.0,
      is_encoder_decoder: true,
      is_gated_act: false,
      layer_norm_epsilon: 1e-6,
      model_type: 'switch_transformers',
      num_decoder_layers: 12,
      num_experts: 8,
      num_heads: 12,
      num_layers: 12,
      num_sparse_decoder_layers: 6,
      num_sparse_encoder_layers: 6,
      pad_token_id: 0,
      relative_attention_max_distance: 128,
      relative_attention_num_buckets: 32,
      router_aux_loss_coef: 0.001,
      router_bias: false,
      router_dtype: 'float32',
      router_ignore_padding_tokens: false,
      router_jitter_noise: 0.01,
      router_type: 'tokens_masked',
      router_z_loss_coef: 0.001,
      use_cache: true,
      vocab_size: 32128,
    },
    millions: 619.34,
    active: 222.9,
  },
  'nllb-moe-54b': {
    config: {
      activation_dropout: 0.0,
      activation_function: 'relu',
      architectures: ['NllbMoeForConditionalGeneration'],
      attention_dropout: 0.1,
      batch_prioritized_routing: false,
      bos_token_id: 0,
      d_model: 2048,
      decoder_attention_heads: 16,
      decoder_ffn_dim: 8192,
      decoder_layerdrop: 0,
      decoder_layers: 24,
      decoder_sparse_step: 4,
      decoder_start_token_id: 2,
      dropout: 0.1,
      encoder_attention_heads: 16,
      encoder_ffn_dim: 8192,
      encoder_layerdrop: 0,
      encoder_layers: 24,
      encoder_sparse_step: 4,
      eos_token_id: 2,
      expert_capacity: 64,
      init_std: 0.02,
      is_encoder_decoder: true,
      max_length: 200,
      max_position_embeddings: 1024,
      model_type: 'nllb-moe',
      moe_eval_capacity_token_fraction: 1.0,
      moe_token_dropout: 0.2,
      normalize_router_prob_before_dropping: true,
      num_experts: 128,
      num_hidden_layers: 24,
      output_router_logits: false,
      pad_token_id: 1,
      router_aux_loss_coef: 0.001,
      router_bias: false,
      router_dtype: 'float32',
      router_ignore_padding_tokens: false,
      router_z_loss_coef: 0.001,
      scale_embedding: true,
      second_expert_policy: 'all',
      torch_dtype: 'float32',
      use_cache: true,
      vocab_size: 256206,
    },
    millions: 54_500,
    active: 3_700,
  },
};

describe('published configs', () => {
  it.each(Object.entries(PUBLISHED))('%s', (_, { config, has = [], millions, active }) => {
    const files = describeConfig(config, (tensor) => has.includes(tensor));
    const count = sumParameters(files.parts, activeShare(files.config));
    expect(Math.abs(count.total / 1e6 / millions - 1)).toBeLessThan(0.002);
    if (active !== undefined) expect(Math.abs(count.active / 1e6 / active - 1)).toBeLessThan(0.02);
  });

  it('say which layers are sparse', () => {
    const files = describeConfig(PUBLISHED['switch-base-8']?.config ?? {});
    if (files.kind !== 'encoder-decoder') throw new Error(files.kind);
    expect(files.config.encoder.moe?.layers).toEqual([1, 3, 5, 7, 9, 11]);
    const nllb = describeConfig(PUBLISHED['nllb-moe-54b']?.config ?? {});
    if (nllb.kind !== 'encoder-decoder') throw new Error(nllb.kind);
    expect(nllb.config.decoder.moe?.layers).toEqual([3, 7, 11, 15, 19, 23]);
  });

  const switchConfig = PUBLISHED['switch-base-8']?.config ?? {};
  it.each([
    [{ encoder_sparse_step: 1 }, 12],
    [{ encoder_sparse_step: 3 }, 4],
    [{ encoder_sparse_step: 0 }, 0],
    [{ encoder_sparse_step: undefined, num_sparse_encoder_layers: 4 }, 4],
    // the published rule leaves layer 1 sparse where none should be
    [{ encoder_sparse_step: undefined, num_sparse_encoder_layers: 0 }, 1],
  ])('Switch %j', (change, count) => {
    const files = describeConfig({ ...switchConfig, ...change });
    if (files.kind !== 'encoder-decoder') throw new Error(files.kind);
    expect(files.config.encoder.moe?.layers.length ?? 0).toBe(count);
  });

  it.each([
    [{ feed_forward_proj: 'gated-silu' }, 'silu', true],
    [{ feed_forward_proj: 'gelu' }, 'gelu', false],
    [{ feed_forward_proj: 'gated-gelu' }, 'gelu_tanh', true],
    [{}, 'relu', false],
  ])('T5 %j', (change, activation, gated) => {
    const files = describeConfig({ ...T5_SMALL, ...change });
    if (files.kind !== 'encoder-decoder') throw new Error(files.kind);
    expect(files.config.encoder).toMatchObject({ activation, gated });
  });

  it.each([
    [{ ...T5_SMALL, feed_forward_proj: 'half-gelu' }, 'feed_forward_proj'],
    [{ ...T5_SMALL, relative_attention_num_buckets: 1 }, 'relative bias'],
    [{ ...T5_SMALL, relative_attention_max_distance: 2 ** 30 }, 'relative bias'],
    [{ ...T5_SMALL, is_decoder: true }, 'is_decoder'],
    [{ ...PUBLISHED['bart-large-cnn']?.config, normalize_before: true }, 'normalize_before'],
    [{ ...PUBLISHED['nllb-moe-54b']?.config, second_expert_policy: 'sampling' }, 'second_expert_policy'],
    [{ ...PUBLISHED['nllb-moe-54b']?.config, moe_eval_capacity_token_fraction: 'all' }, 'moe_eval_capacity'],
    [{ ...PUBLISHED['nllb-moe-54b']?.config, expert_capacity: 0 }, 'expert_capacity'],
    [{ ...PUBLISHED['nllb-moe-54b']?.config, moe_token_dropout: 1 }, 'moe_token_dropout'],
    [{ ...switchConfig, expert_capacity: 0 }, 'expert_capacity'],
    [{ ...switchConfig, feed_forward_proj: 'gated-gelu' }, 'feed_forward_proj'],
  ])('refuses by name: %#', (config, key) => {
    expect(() => describeConfig(config)).toThrow(key);
  });

  it('with any value for any key are read or refused, and nothing else', () => {
    const configs = Object.values(PUBLISHED).map(({ config }) => config);
    const odd = fc.constantFrom<unknown>(
      null,
      -1,
      0,
      1,
      2.5,
      2 ** 40,
      1e308,
      '',
      'x',
      true,
      [],
      [-1],
      {},
      ['x'],
      [[]],
    );
    const change = fc.integer({ min: 0, max: configs.length - 1 }).chain((at) =>
      fc.record({
        config: fc.constant(configs[at] as Published['config']),
        key: fc.constantFrom(...Object.keys(configs[at] as object)),
        value: odd,
      }),
    );
    fc.assert(
      fc.property(change, ({ config, key, value }) => {
        const small = { ...config, num_experts: 4, encoder_layers: 2, decoder_layers: 2, num_layers: 2 };
        const known = Object.fromEntries(Object.entries(small).filter(([name]) => name in config));
        try {
          describeConfig({ ...known, [key]: value });
        } catch (error) {
          if (!(error instanceof SwitchyardError)) throw error;
          expect(['ERR_FORMAT', 'ERR_UNSUPPORTED', 'ERR_UNSUPPORTED_ARCH']).toContain(error.code);
        }
      }),
      { seed: 7, numRuns: 2000 },
    );
  });
});
