import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { TensorToWrite } from '../../../src/checkpoint/safetensors-write.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { checkConfig, type DecoderConfig, windowOf } from '../../../src/models/decoder/config.js';
import { olmoe } from '../../../src/models/families/olmoe.js';
import { qwen3 } from '../../../src/models/families/qwen3.js';
import { qwen3Moe } from '../../../src/models/families/qwen3_moe.js';
import type { Family } from '../../../src/models/family.js';
import { ConfigReader } from '../../../src/models/read/config-reader.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { ggufBytes, type MetadataToWrite } from '../../helpers/gguf-writer.js';
import { generator } from '../../helpers/random.js';
import { normal, TINY_VOCABULARY, tinyMetadata, writeTinyFolder } from '../../helpers/tiny-model.js';

const folder = temporaryFolder();
const [D, H, G, C, F, E, K, LAYERS] = [32, 4, 2, 16, 24, 5, 2, 2];

const common = {
  hidden_size: D,
  num_hidden_layers: LAYERS,
  num_attention_heads: H,
  num_key_value_heads: G,
  head_dim: C,
  vocab_size: TINY_VOCABULARY,
  max_position_embeddings: 128,
  rms_norm_eps: 1e-5,
};
const experts = { num_experts: E, num_experts_per_tok: K };

interface Case {
  readonly family: Family;
  readonly config: Record<string, unknown>;
  readonly norm: 'head' | 'heads';
  readonly sparse: boolean;
  /** Keys of GGUF beyond those of a dense Llama. */
  readonly keys: Readonly<Record<string, number>>;
}

const cases: Case[] = [
  {
    family: olmoe,
    config: { ...common, ...experts, intermediate_size: F, clip_qkv: 0.5 },
    norm: 'heads',
    sparse: true,
    keys: { expert_count: E, expert_used_count: K, expert_feed_forward_length: F },
  },
  {
    family: qwen3,
    config: { ...common, intermediate_size: F },
    norm: 'head',
    sparse: false,
    keys: {},
  },
  {
    family: qwen3Moe,
    config: {
      ...common,
      ...experts,
      intermediate_size: 2 * F,
      moe_intermediate_size: F,
      norm_topk_prob: true,
    },
    norm: 'head',
    sparse: true,
    keys: { expert_count: E, expert_used_count: K, expert_feed_forward_length: F },
  },
];

interface Named {
  readonly shape: readonly number[];
  readonly data: Float32Array;
  readonly gguf: string;
  /** One name, or one per expert. */
  readonly names: readonly string[];
}

function tensorsOf({ norm, sparse }: Case): Named[] {
  const next = generator(3);
  const list: Named[] = [];
  const add = (gguf: string, name: string | readonly string[], ...shape: number[]): void => {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = gguf.includes('norm')
      ? normal(next, size, 0.2).map((v) => 1 + v)
      : normal(next, size, 1.5 / Math.sqrt(shape.at(-1) as number));
    list.push({ shape, data, gguf: `${gguf}.weight`, names: [name].flat() });
  };
  add('token_embd', 'model.embed_tokens.weight', TINY_VOCABULARY, D);
  add('output_norm', 'model.norm.weight', D);
  add('output', 'lm_head.weight', TINY_VOCABULARY, D);
  for (let i = 0; i < LAYERS; i++) {
    const at = (gguf: string, name: string, ...shape: number[]): void =>
      add(`blk.${i}.${gguf}`, `model.layers.${i}.${name}.weight`, ...shape);
    at('attn_norm', 'input_layernorm', D);
    at('ffn_norm', 'post_attention_layernorm', D);
    at('attn_q', 'self_attn.q_proj', H * C, D);
    at('attn_k', 'self_attn.k_proj', G * C, D);
    at('attn_v', 'self_attn.v_proj', G * C, D);
    at('attn_output', 'self_attn.o_proj', D, H * C);
    at('attn_q_norm', 'self_attn.q_norm', norm === 'heads' ? H * C : C);
    at('attn_k_norm', 'self_attn.k_norm', norm === 'heads' ? G * C : C);
    for (const [part, rows, columns] of [
      ['gate', F, D],
      ['up', F, D],
      ['down', D, F],
    ] as const) {
      if (!sparse) at(`ffn_${part}`, `mlp.${part}_proj`, rows, columns);
      else {
        const each = Array.from(
          { length: E },
          (_, e) => `model.layers.${i}.mlp.experts.${e}.${part}_proj.weight`,
        );
        add(`blk.${i}.ffn_${part}_exps`, each, E, rows, columns);
      }
    }
    if (sparse) at('ffn_gate_inp', 'mlp.gate', E, D);
  }
  return list;
}

function split({ names, shape, data }: Named): TensorToWrite[] {
  if (names.length === 1) return [{ name: names[0] as string, shape, data }];
  const size = data.length / names.length;
  return names.map((name, e) => ({
    name,
    shape: shape.slice(1),
    data: data.slice(e * size, (e + 1) * size),
  }));
}

function ggufOf(c: Case, arch: string): Buffer {
  const u32 = (value: number): MetadataToWrite => ({ type: 'u32', value });
  const sizes = {
    nLayers: LAYERS,
    dModel: D,
    nHeads: H,
    nKvHeads: G,
    dFf: c.config.intermediate_size as number,
  };
  const metadata = tinyMetadata({ ...sizes, maxSeqLen: 128 }).map(
    ([key, value]): [string, MetadataToWrite] =>
      key === 'general.architecture'
        ? [key, { type: 'string', value: arch }]
        : [key.replace(/^llama\./, `${arch}.`), value],
  );
  metadata.push([`${arch}.attention.key_length`, u32(C)]);
  for (const [key, value] of Object.entries(c.keys)) metadata.push([`${arch}.${key}`, u32(value)]);
  if (c.config.clip_qkv !== undefined)
    metadata.push([`${arch}.attention.clamp_kqv`, { type: 'f32', value: c.config.clip_qkv as number }]);
  const tensors = tensorsOf(c).map(({ gguf, shape, data }) => ({
    name: gguf,
    dims: [...shape].reverse(),
    type: 0,
    data: new Uint8Array(data.buffer),
  }));
  return ggufBytes({ metadata, tensors });
}

describe.each(cases)('$family.modelType', (c) => {
  const { family, config } = c;
  const write = async (name: string, tensors: readonly TensorToWrite[]): Promise<string> => {
    const path = join(folder, `${family.modelType}-${name}`);
    await writeTinyFolder(path, {}, { config: { ...config, model_type: family.modelType }, tensors });
    return path;
  };

  it('computes the same bits from a folder and from a GGUF file', async () => {
    const path = join(folder, `${family.modelType}.gguf`);
    writeFileSync(path, ggufOf(c, family.ggufArchitecture as string));
    const logits: Float32Array[] = [];
    for (const from of [await write('whole', tensorsOf(c).flatMap(split)), path]) {
      await using model = await loadLanguageModel(from, { dtype: 'f32' });
      expect(model.config.family).toBe(family.modelType);
      const out = await model.forward({ inputIds: [[3, 1, 4, 1, 5, 9, 2, 6]] });
      logits.push((await out.logits.data()) as Float32Array);
    }
    expect(logits[0]?.every(Number.isFinite)).toBe(true);
    expect(logits[1]).toEqual(logits[0]);
  });

  it('is refused without a norm of its queries or keys', async () => {
    const missing = 'model.layers.1.self_attn.k_norm.weight';
    const path = await write(
      'short',
      tensorsOf(c)
        .flatMap(split)
        .filter(({ name }) => name !== missing),
    );
    await expect(loadLanguageModel(path)).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    await expect(loadLanguageModel(path)).rejects.toThrow(missing);
  });
});

function read(family: Family, config: Record<string, unknown>): DecoderConfig {
  const reader = new ConfigReader({ ...common, intermediate_size: F, ...config }, 'config.json');
  const found = checkConfig(family.fromHuggingFace(reader), 'config.json');
  reader.finish();
  return found;
}

const sparse = { ...experts, moe_intermediate_size: 8 };
const windowsOf = (config: DecoderConfig): number[] =>
  Array.from({ length: config.nLayers }, (_, i) => windowOf(config, i));

describe('sparse layers of qwen3_moe', () => {
  it.each<[Record<string, unknown>, number[] | undefined]>([
    [{}, [0, 1, 2, 3, 4]],
    [{ decoder_sparse_step: 2 }, [1, 3]],
    [{ decoder_sparse_step: 3, mlp_only_layers: [2] }, undefined],
    [{ mlp_only_layers: [0, 4, 9] }, [1, 2, 3]],
    [{ decoder_sparse_step: 1024 }, undefined],
  ])('%j', (config, layers) => {
    const { moe } = read(qwen3Moe, { ...sparse, num_hidden_layers: 5, ...config });
    expect(moe?.layers).toEqual(layers);
  });
});

describe('windows', () => {
  it.each<[Family, Record<string, unknown>, number[]]>([
    [qwen3, { sliding_window: 8 }, [0, 0, 0]],
    [qwen3, { sliding_window: 8, use_sliding_window: true }, [0, 0, 0]], // from layer 28 upwards
    [qwen3, { sliding_window: 8, use_sliding_window: true, max_window_layers: 1 }, [0, 8, 8]],
    [qwen3, { sliding_window: null, use_sliding_window: true, max_window_layers: 0 }, [0, 0, 0]],
    [qwen3, { use_sliding_window: true, max_window_layers: 0 }, [4096, 4096, 4096]],
    [
      qwen3,
      {
        sliding_window: 8,
        use_sliding_window: true,
        layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
      },
      [8, 0, 8],
    ],
    [qwen3Moe, { ...sparse, sliding_window: 8, max_window_layers: 2 }, [0, 0, 0]],
    [qwen3Moe, { ...sparse, sliding_window: 8, use_sliding_window: true, max_window_layers: 2 }, [8, 8, 8]],
  ])('%j', (family, config, windows) => {
    expect(windowsOf(read(family, { num_hidden_layers: 3, ...config }))).toEqual(windows);
  });
});

it('values that a config leaves out are those of the family', () => {
  const { hidden_size, num_hidden_layers, num_attention_heads, vocab_size } = common;
  const few = { hidden_size, num_hidden_layers, num_attention_heads, vocab_size, intermediate_size: F };
  const from = (family: Family) => family.fromHuggingFace(new ConfigReader(few, 'config.json'));
  expect(from(olmoe)).toMatchObject({
    norm: { eps: 1e-5 },
    maxSeqLen: 4096,
    headDim: 8,
    moe: { nExperts: 64, topK: 8 },
  });
  expect(from(qwen3)).toMatchObject({ norm: { eps: 1e-6 }, maxSeqLen: 32768, headDim: 128, moe: null });
  expect(from(qwen3Moe)).toMatchObject({ headDim: 8, dFf: F, moe: { nExperts: 128, topK: 8, dFf: 768 } });
});

describe('a config is refused', () => {
  it.each<[Family, Record<string, unknown>, string, RegExp]>([
    [olmoe, { ...experts, clip_qkv: -1 }, 'ERR_FORMAT', /clip_qkv/],
    [olmoe, { ...experts, norm_topk_prob: 1 }, 'ERR_FORMAT', /norm_topk_prob/],
    [olmoe, { ...experts, moe_intermediate_size: F + 1 }, 'ERR_FORMAT', /moe_intermediate_size/],
    [olmoe, { ...experts, num_experts_per_tok: E + 1 }, 'ERR_FORMAT', /experts per token/],
    [qwen3, { ...experts }, 'ERR_UNSUPPORTED', /num_experts/],
    [qwen3, { clip_qkv: 2 }, 'ERR_UNSUPPORTED', /clip_qkv/],
    [qwen3, { use_sliding_window: true, sliding_window: 0 }, 'ERR_FORMAT', /sliding_window/],
    [qwen3, { layer_types: ['sliding_attention', 'full_attention'] }, 'ERR_FORMAT', /layer_types/],
    [qwen3, { layer_types: ['full_attention'] }, 'ERR_FORMAT', /layer_types/],
    [qwen3Moe, { ...sparse, decoder_sparse_step: 0 }, 'ERR_FORMAT', /decoder_sparse_step/],
    [qwen3Moe, { ...sparse, mlp_only_layers: [-1] }, 'ERR_FORMAT', /mlp_only_layers/],
    [qwen3Moe, { ...sparse, mlp_only_layers: 'all' }, 'ERR_FORMAT', /mlp_only_layers/],
    [qwen3Moe, { ...sparse, shared_expert_intermediate_size: 4 }, 'ERR_FORMAT', /shared_expert/],
    [qwen3Moe, { ...sparse, use_qk_norm: false }, 'ERR_FORMAT', /use_qk_norm/],
    [qwen3Moe, { ...sparse, routed_scaling_factor: 2 }, 'ERR_UNSUPPORTED', /routed_scaling_factor/],
  ])('%j', (family, config, code, message) => {
    expect(() => read(family, config)).toThrow(message);
    expect(() => read(family, config)).toThrow(expect.objectContaining({ code }));
  });
});
