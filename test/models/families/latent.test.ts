/** Latent attention beyond the references: GGUF files in both forms, and layers that predict further ahead. */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/checkpoint/folder.js';
import { type TensorToWrite, writeSafetensors } from '../../../src/checkpoint/safetensors-write.js';
import { attention } from '../../../src/core/ops/attention.js';
import { concat } from '../../../src/core/ops/shape.js';
import { compileOn } from '../../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../../src/core/tensor.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import type { PassContext } from '../../../src/models/decoder/block.js';
import type { Decoder } from '../../../src/models/decoder/decoder.js';
import type { Attend } from '../../../src/nn/attention.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { fixturesFolder } from '../../helpers/fixtures.js';
import { ggufBytes, type MetadataToWrite } from '../../helpers/gguf-writer.js';
import { generator } from '../../helpers/random.js';
import { normal, TINY_VOCABULARY, tinyMetadata } from '../../helpers/tiny-model.js';

const folder = temporaryFolder();
const source = join(fixturesFolder ?? '', 'deepseek_v3');
const IDS = [3, 1, 4, 1, 5, 9, 2, 6];

type Values = { readonly shape: readonly number[]; readonly data: Float32Array };

/** The float32 tensors of the reference folder. */
function tensors(): Map<string, Values> {
  const found = new Map<string, Values>();
  for (const { name, shape, path, offset, bytes } of openCheckpoint(source).tensors) {
    const { buffer } = Uint8Array.from(readFileSync(path).subarray(offset, offset + bytes));
    found.set(name, { shape, data: new Float32Array(buffer) });
  }
  return found;
}

const logitsOf = async (model: LanguageModel): Promise<Float32Array> =>
  (await (await model.forward({ inputIds: [IDS] })).logits.data()) as Float32Array;

const config = (): Record<string, number> & { rope_scaling: Record<string, number> } =>
  JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));

/** kv_b_proj [H · (plain + value), rank] as H × [rank, plain] and H × [value, rank]. */
function splitUp({ data }: Values, h: number, plain: number, value: number, rank: number): [Values, Values] {
  const at = (head: number, row: number, r: number): number =>
    data[(head * (plain + value) + row) * rank + r] as number;
  const make = (rows: number, columns: number, f: (head: number, row: number, column: number) => number) => ({
    shape: [h, rows, columns],
    data: Float32Array.from({ length: h * rows * columns }, (_, i) =>
      f(Math.floor(i / (rows * columns)), Math.floor(i / columns) % rows, i % columns),
    ),
  });
  return [
    make(rank, plain, (head, r, n) => at(head, n, r)),
    make(value, rank, (head, v, r) => at(head, plain + v, r)),
  ];
}

const NAMES: readonly [RegExp, string][] = [
  [/^model\.embed_tokens/, 'token_embd'],
  [/^model\.norm/, 'output_norm'],
  [/^lm_head/, 'output'],
  [/^model\.layers\./, 'blk.'],
  [/self_attn\.q_a_layernorm/, 'attn_q_a_norm'],
  [/self_attn\.kv_a_layernorm/, 'attn_kv_a_norm'],
  [/self_attn\.q_a_proj/, 'attn_q_a'],
  [/self_attn\.q_b_proj/, 'attn_q_b'],
  [/self_attn\.kv_a_proj_with_mqa/, 'attn_kv_a_mqa'],
  [/self_attn\.kv_b_proj/, 'attn_kv_b'],
  [/self_attn\.o_proj/, 'attn_output'],
  [/input_layernorm/, 'attn_norm'],
  [/post_attention_layernorm/, 'ffn_norm'],
  [/mlp\.gate\.e_score_correction_bias/, 'exp_probs_b.bias'],
  [/mlp\.gate\./, 'ffn_gate_inp.'],
  [/mlp\.shared_experts\.(\w+)_proj/, 'ffn_$1_shexp'],
  [/mlp\.experts\.(\d+)\.(\w+)_proj/, 'ffn_$2.$1'],
  [/mlp\.(\w+)_proj/, 'ffn_$1'],
];
const ggufName = (name: string): string => NAMES.reduce((text, [from, to]) => text.replace(from, to), name);

function ggufOf(split: boolean): Buffer {
  const c = config();
  const list = new Map<string, Values>();
  for (const [name, values] of tensors()) {
    const to = ggufName(name);
    if (!split || !name.includes('kv_b_proj')) {
      list.set(to, values);
      continue;
    }
    const sizes = [c.num_attention_heads, c.qk_nope_head_dim, c.v_head_dim, c.kv_lora_rank] as const;
    const [k, v] = splitUp(values, ...(sizes as readonly [number, number, number, number]));
    list.set(to.replace('kv_b', 'k_b'), k);
    list.set(to.replace('kv_b', 'v_b'), v);
  }
  const u32 = (value: number): MetadataToWrite => ({ type: 'u32', value });
  const f32 = (value: number): MetadataToWrite => ({ type: 'f32', value });
  const [heads, rank, rope] = [c.num_attention_heads, c.kv_lora_rank, c.qk_rope_head_dim] as number[] as [
    number,
    number,
    number,
  ];
  const keyLength = (c.qk_nope_head_dim as number) + rope;
  const keys: Record<string, MetadataToWrite> = {
    block_count: u32(c.num_hidden_layers as number),
    context_length: u32(c.max_position_embeddings as number),
    embedding_length: u32(c.hidden_size as number),
    feed_forward_length: u32(c.intermediate_size as number),
    vocab_size: u32(c.vocab_size as number),
    'attention.head_count': u32(heads),
    'attention.head_count_kv': u32(split ? 1 : heads),
    'attention.layer_norm_rms_epsilon': f32(c.rms_norm_eps as number),
    'attention.q_lora_rank': u32(c.q_lora_rank as number),
    'attention.kv_lora_rank': u32(rank),
    'attention.key_length': u32(split ? rank + rope : keyLength),
    'attention.value_length': u32(split ? rank : (c.v_head_dim as number)),
    ...(split
      ? {
          'attention.key_length_mla': u32(keyLength),
          'attention.value_length_mla': u32(c.v_head_dim as number),
        }
      : {}),
    leading_dense_block_count: u32(c.first_k_dense_replace as number),
    expert_count: u32(c.n_routed_experts as number),
    expert_used_count: u32(c.num_experts_per_tok as number),
    expert_shared_count: u32(c.n_shared_experts as number),
    expert_feed_forward_length: u32(c.moe_intermediate_size as number),
    expert_weights_scale: f32(c.routed_scaling_factor as number),
    expert_weights_norm: { type: 'bool', value: true },
    expert_gating_func: u32(2),
    expert_group_count: u32(c.n_group as number),
    expert_group_used_count: u32(c.topk_group as number),
    'rope.dimension_count': u32(rope),
    'rope.freq_base': f32(c.rope_theta as number),
    'rope.scaling.type': { type: 'string', value: 'yarn' },
    'rope.scaling.factor': f32(c.rope_scaling.factor as number),
    'rope.scaling.original_context_length': u32(c.rope_scaling.original_max_position_embeddings as number),
    'rope.scaling.yarn_log_multiplier': f32(0.1 * (c.rope_scaling.mscale_all_dim as number)),
  };
  const metadata: [string, MetadataToWrite][] = [
    ['general.architecture', { type: 'string', value: 'deepseek2' }],
    ...Object.entries(keys).map(([key, value]): [string, MetadataToWrite] => [`deepseek2.${key}`, value]),
    ...tinyMetadata({}).filter(([key]) => key.startsWith('tokenizer.')),
  ];
  return ggufBytes({
    metadata,
    tensors: [...list].map(([name, { shape, data }]) => ({
      name,
      dims: [...shape].reverse(),
      type: 0,
      data: new Uint8Array(data.buffer),
    })),
  });
}

describe.skipIf(fixturesFolder === undefined)('latent attention', () => {
  it.each([true, false])('from GGUF, keys and values with matrices of their own: %s', async (split) => {
    expect(config().vocab_size).toBeGreaterThan(TINY_VOCABULARY);
    const path = join(folder, `${split}.gguf`);
    writeFileSync(path, ggufOf(split));
    await using model = await loadLanguageModel(path, { dtype: 'f32' });
    await using reference = await loadLanguageModel(source, { dtype: 'f32' });
    expect(model.config.family).toBe('deepseek_v3');
    const [got, want] = [await logitsOf(model), await logitsOf(reference)];
    const most = Math.max(...want.map(Math.abs));
    // constants are float32 in the file
    got.forEach((value, i) => void expect(Math.abs(value - (want[i] as number)) / most).toBeLessThan(2e-6));
    expect(model.engine.cache.k[0]?.shape[1]).toBe(1);
  });

  it('a layer behind the last predicts from a token and the hidden state before it', async () => {
    const { hidden_size: d, num_hidden_layers: n } = config() as unknown as {
      hidden_size: number;
      num_hidden_layers: number;
    };
    const next = generator(5);
    const list: TensorToWrite[] = [...tensors()].map(([name, values]) => ({ name, ...values }));
    const at = (name: string): string => `model.layers.${n}.${name}.weight`;
    for (const { name, shape, data } of [...list] as (TensorToWrite & Values)[])
      if (name.startsWith(`model.layers.${n - 1}.`))
        list.push({ name: name.replace(`layers.${n - 1}`, `layers.${n}`), shape, data });
    for (const name of ['enorm', 'hnorm', 'shared_head.norm'])
      list.push({ name: at(name), shape: [d], data: normal(next, d, 0.3).map((v) => 1 + v) });
    list.push({ name: at('eh_proj'), shape: [d, 2 * d], data: normal(next, 2 * d * d, 0.2) });
    for (const [copy, of] of [
      ['embed_tokens', 'model.embed_tokens.weight'],
      ['shared_head.head', 'lm_head.weight'],
    ] as const)
      list.push({ name: at(copy), ...(tensors().get(of) as Values) });
    const path = join(folder, 'predicting');
    mkdirSync(path);
    writeFileSync(join(path, 'config.json'), JSON.stringify({ ...config(), num_nextn_predict_layers: 1 }));
    copyFileSync(join(source, 'tokenizer.json'), join(path, 'tokenizer.json'));
    await writeSafetensors(join(path, 'model.safetensors'), list);
    await using model = await loadLanguageModel(path, { dtype: 'f32' });
    await using plain = await loadLanguageModel(source, { dtype: 'f32' });
    expect(await logitsOf(model)).toEqual(await logitsOf(plain));

    const decoder = model.decoder as Decoder;
    expect(decoder.parts.predictions).toHaveLength(1);
    const run = compileOn(
      () => model.device,
      (tokens: Tensor, positions: Tensor, offsets: Tensor, later: Tensor) => {
        const attend: Attend = (q, k, v, options) => attention(q, k, v, offsets, offsets, options);
        const inputs = { tokens, positions, attend: () => attend };
        const hidden = decoder.forward(inputs, 'f32').hiddenStates.at(-1) as Tensor;
        const got = decoder.predict(0, { ...inputs, tokens: later, hidden }, 'f32');
        // the same by hand, with the last layer, whose weights the prediction layer has
        const { embedding, layers, predictions } = decoder.parts;
        const { tokenNorm, hiddenNorm, projection, norm } = predictions[0] as (typeof predictions)[number];
        const both = [tokenNorm.forward(embedding.forward(later)), hiddenNorm.forward(hidden)];
        const context: PassContext = {
          table: decoder.rotary?.table(positions) ?? null,
          compute: 'f32',
          tokens: later,
          routing: [],
        };
        const last = layers.at(-1) as (typeof layers)[number];
        const y = norm.forward(last.forward(projection.forward(concat(both, 1)), attend, context));
        return { got: got.logits, want: decoder.logits(y, 'f32') };
      },
      { device: model.device },
    );
    const i32 = (values: number[]): Tensor => tensor(Int32Array.from(values));
    const { got, want } = await run(
      i32(IDS),
      i32(IDS.map((_, i) => i)),
      i32([0, IDS.length]),
      i32([...IDS.slice(1), 7]),
    );
    const values = await got.data();
    expect(values.every(Number.isFinite)).toBe(true);
    expect(values).toEqual(await want.data());
    expect(() => decoder.predict(1, {} as never, 'f32')).toThrow('got prediction layer 1');
    run.dispose();
  });
});
