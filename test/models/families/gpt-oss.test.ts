import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readGguf } from '../../../src/checkpoint/gguf.js';
import type { TensorToWrite } from '../../../src/checkpoint/safetensors-write.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import { normal, TINY_VOCABULARY, writeTinyFolder } from '../../helpers/tiny-model.js';

const folder = temporaryFolder();
const [D, H, G, C, F, E, LAYERS] = [64, 4, 2, 16, 32, 5, 2];
const config = {
  model_type: 'gpt_oss',
  hidden_size: D,
  num_hidden_layers: LAYERS,
  num_attention_heads: H,
  num_key_value_heads: G,
  head_dim: C,
  intermediate_size: F,
  num_local_experts: E,
  num_experts_per_tok: 2,
  vocab_size: TINY_VOCABULARY,
  max_position_embeddings: 64,
  sliding_window: 4,
};
const quantization = { quant_method: 'mxfp4', modules_to_not_convert: ['model.layers.*.mlp.router'] };

/** A stack [E, rows, columns] of random MXFP4: its codes and exponents, and what they stand for as [E, columns, rows]. */
function stack(next: () => number, rows: number, columns: number) {
  const codes = Uint8Array.from({ length: (E * rows * columns) / 2 }, () => next() * 256);
  const exponents = Uint8Array.from({ length: (E * rows * columns) / 32 }, () => 122 + next() * 3);
  const turned = new Float32Array(E * rows * columns);
  for (let i = 0; i < turned.length; i++) {
    const code = ((codes[i >> 1] as number) >> (4 * (i & 1))) & 15;
    const size = [0, 0.5, 1, 1.5, 2, 3, 4, 6][code & 7] as number;
    const value = (code > 7 ? -size : size) * 2 ** ((exponents[Math.floor(i / 32)] as number) - 127);
    const [e, row, column] = [Math.floor(i / rows / columns), Math.floor(i / columns) % rows, i % columns];
    turned[(e * columns + column) * rows + row] = value;
  }
  return { codes, exponents, turned };
}

/** The same model twice: experts as floats, and as MXFP4. */
function tensors(): Record<'floats' | 'mxfp4', TensorToWrite[]> {
  const next = generator(9);
  const floats: TensorToWrite[] = [];
  const mxfp4: TensorToWrite[] = [];
  const add = (name: string, ...shape: number[]): void => {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = normal(next, size, name.includes('embed') ? 1 : 0.2);
    if (name.includes('norm')) for (const i of data.keys()) data[i] = 1 + (data[i] as number);
    for (const list of [floats, mxfp4]) list.push({ name, shape, data });
  };
  add('model.embed_tokens.weight', TINY_VOCABULARY, D);
  for (let i = 0; i < LAYERS; i++) {
    const at = (name: string): string => `model.layers.${i}.${name}`;
    for (const [name, rows, columns] of [
      ['q', H * C, D],
      ['k', G * C, D],
      ['v', G * C, D],
      ['o', D, H * C],
    ] as const) {
      add(at(`self_attn.${name}_proj.weight`), rows, columns);
      add(at(`self_attn.${name}_proj.bias`), rows);
    }
    add(at('self_attn.sinks'), H);
    add(at('input_layernorm.weight'), D);
    add(at('post_attention_layernorm.weight'), D);
    add(at('mlp.router.weight'), E, D);
    add(at('mlp.router.bias'), E);
    for (const [name, rows, columns] of [
      ['gate_up', 2 * F, D],
      ['down', D, F],
    ] as const) {
      const { codes, exponents, turned } = stack(next, rows, columns);
      const tensor = at(`mlp.experts.${name}_proj`);
      floats.push({ name: tensor, shape: [E, columns, rows], data: turned });
      mxfp4.push(
        { name: `${tensor}_blocks`, shape: [E, rows, columns / 32, 16], data: codes },
        { name: `${tensor}_scales`, shape: [E, rows, columns / 32], data: exponents },
      );
      add(`${tensor}_bias`, E, rows);
    }
  }
  add('model.norm.weight', D);
  add('lm_head.weight', TINY_VOCABULARY, D);
  return { floats, mxfp4 };
}

it('gives the same logits from experts in MXFP4 as from their values', async () => {
  const written = tensors();
  const logits: Float32Array[] = [];
  for (const form of ['floats', 'mxfp4'] as const) {
    const path = await writeTinyFolder(
      join(folder, form),
      {},
      {
        config: form === 'mxfp4' ? { ...config, quantization_config: quantization } : config,
        tensors: written[form],
      },
    );
    const model = await loadLanguageModel(path, { dtype: 'f32' });
    const out = await model.forward({ inputIds: [[5, 80, 3, 200, 7, 9]] });
    logits.push((await out.logits.data()) as Float32Array);
    await model.dispose();
  }
  expect(logits[0]?.every(Number.isFinite)).toBe(true);
  expect(logits[1]).toEqual(logits[0]);
});

it('writes experts in MXFP4 as a GGUF file holds them', async () => {
  const written = tensors();
  const path = await writeTinyFolder(
    join(folder, 'to-gguf'),
    {},
    { config: { ...config, quantization_config: quantization }, tensors: written.mxfp4 },
  );
  await using model = await loadLanguageModel(path, { dtype: 'f32' });
  const file = join(folder, 'written.gguf');
  await model.save(file);
  const stored = [...readGguf(file).tensors].filter(({ name }) => /_exps\.weight$/.test(name));
  expect(stored.map(({ format }) => format)).toEqual(new Array(3 * LAYERS).fill('mxfp4'));
  await using read = await loadLanguageModel(file, { dtype: 'f32' });
  const ids = [[5, 80, 3, 200, 7, 9]];
  const logits = async (each: typeof model) => (await each.forward({ inputIds: ids })).logits.data();
  expect(await logits(read)).toEqual(await logits(model));
});

it('refuses experts that are quantised in another way', async () => {
  const path = await writeTinyFolder(
    join(folder, 'other'),
    {},
    { config: { ...config, quantization_config: { quant_method: 'gptq' } }, tensors: [] },
  );
  await expect(loadLanguageModel(path)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
});
