/** Parameters of published models, from the keys of their configs alone. */
import { describe, expect, it } from 'vitest';
import { countParameters } from '../../src/models/count.js';
import type { DecoderConfig } from '../../src/models/decoder/config.js';
import { configOf, familyOf } from '../../src/models/registry.js';

type Config = Record<string, unknown>;

const read = (config: Config): DecoderConfig => configOf(familyOf(config.model_type), config, 'config.json');

const sizes = (
  hidden_size: number,
  num_hidden_layers: number,
  [num_attention_heads, num_key_value_heads, head_dim]: readonly [number, number, number],
  intermediate_size: number,
  vocab_size: number,
): Config => ({
  hidden_size,
  num_hidden_layers,
  num_attention_heads,
  num_key_value_heads,
  head_dim,
  intermediate_size,
  vocab_size,
});

// The numbers that the models' makers give (or that their files hold).
const published: [string, Config, number, number][] = [
  [
    'Llama 2 7B',
    { model_type: 'llama', ...sizes(4096, 32, [32, 32, 128], 11008, 32000) },
    6_738_415_616,
    6_738_415_616,
  ],
  [
    'TinyLlama 1.1B',
    { model_type: 'llama', ...sizes(2048, 22, [32, 4, 64], 5632, 32000) },
    1_100_048_384,
    1_100_048_384,
  ],
  [
    'SmolLM2 135M',
    { model_type: 'llama', ...sizes(576, 30, [9, 3, 64], 1536, 49152), tie_word_embeddings: true },
    134_515_008,
    134_515_008,
  ],
  [
    'Mixtral 8x7B',
    {
      architectures: ['MixtralForCausalLM'],
      attention_dropout: 0.0,
      bos_token_id: 1,
      eos_token_id: 2,
      hidden_act: 'silu',
      hidden_size: 4096,
      initializer_range: 0.02,
      intermediate_size: 14336,
      max_position_embeddings: 32768,
      model_type: 'mixtral',
      num_attention_heads: 32,
      num_experts_per_tok: 2,
      num_hidden_layers: 32,
      num_key_value_heads: 8,
      num_local_experts: 8,
      output_router_logits: false,
      rms_norm_eps: 1e-5,
      rope_theta: 1000000.0,
      router_aux_loss_coef: 0.02,
      sliding_window: null,
      tie_word_embeddings: false,
      torch_dtype: 'bfloat16',
      transformers_version: '4.36.0.dev0',
      use_cache: true,
      vocab_size: 32000,
    },
    46_702_792_704,
    12_879_925_248,
  ],
  [
    'OLMoE 1B-7B',
    {
      model_type: 'olmoe',
      ...sizes(2048, 16, [16, 16, 128], 1024, 50304),
      num_experts: 64,
      num_experts_per_tok: 8,
    },
    6_919_161_856,
    1_282_017_280,
  ],
  [
    'Qwen3 30B-A3B',
    {
      model_type: 'qwen3_moe',
      ...sizes(2048, 48, [32, 4, 128], 6144, 151936),
      num_experts: 128,
      num_experts_per_tok: 8,
      moe_intermediate_size: 768,
    },
    30_532_122_624,
    3_353_032_704,
  ],
  [
    'Qwen3 0.6B',
    { model_type: 'qwen3', ...sizes(1024, 28, [16, 8, 128], 3072, 151936), tie_word_embeddings: true },
    596_049_920,
    596_049_920,
  ],
];

describe('countParameters', () => {
  it.each(published)('%s', (_, config, total, active) => {
    expect(countParameters(read(config))).toMatchObject({ total, active });
  });

  it('counts biases, and dense layers beside sparse ones', () => {
    const config: Config = {
      model_type: 'qwen3_moe',
      ...sizes(4, 3, [2, 1, 2], 8, 10),
      attention_bias: true,
      mlp_bias: true,
      num_experts: 5,
      num_experts_per_tok: 2,
      moe_intermediate_size: 3,
      decoder_sparse_step: 2,
    };
    const { byRole, total, active } = countParameters(read(config));
    expect(byRole).toEqual({
      embedding: 40,
      attention: 3 * (16 + 8 + 8 + 16 + 4 + 2 + 2 + 4),
      norm: 7 * 4 + 3 * 4,
      feedForward: 2 * (3 * 32 + 8 + 8 + 4),
      router: 20,
      experts: 5 * 36,
      head: 40,
    });
    expect(total - active).toBe(3 * 36);
  });
});
