import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadModel } from '../../../src/generate/handles/load-model.js';
import { encodeFloats, fitsFormat } from '../../../src/models/write/floats.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { fixturesFolder } from '../../helpers/fixtures.js';
import { readJson } from '../../helpers/tokenizers.js';
import { logitsOf, modelFixtures, tensorsOf } from '../../helpers/written.js';

const place = temporaryFolder();
let count = 0;
const fresh = (ending = ''): string => join(place, `m${count++}${ending}`);

describe.skipIf(fixturesFolder === undefined)('a Hugging Face folder', () => {
  it('is written for every family', () => expect(modelFixtures.length).toBeGreaterThan(20));

  it.each(modelFixtures)('%s: the same tensors, config and tokenizer', async (name) => {
    const from = join(fixturesFolder!, name);
    const to = fresh();
    await using model = await loadModel(from, { dtype: 'f32' });
    await model.save(to, { maxShardBytes: 60_000 });
    const before = tensorsOf(from);
    for (const [tensor, written] of tensorsOf(to)) {
      const source = before.get(tensor);
      expect(source, tensor).toBeDefined();
      expect(written.shape, tensor).toEqual(source!.shape);
      expect(written.format, tensor).toBe(source!.format);
      expect(written.bytes.equals(source!.bytes), tensor).toBe(true);
    }
    expect(readJson(join(to, 'config.json'))).toMatchObject(
      Object.fromEntries(
        Object.entries(readJson(join(from, 'config.json'))).filter(([key]) => !key.includes('dtype')),
      ),
    );
    expect(readJson(join(to, 'tokenizer.json'))).toEqual(readJson(join(from, 'tokenizer.json')));
    await using again = await loadModel(to, { dtype: 'f32' });
    expect(await logitsOf(again)).toEqual(await logitsOf(model));
    expect(readdirSync(place).filter((file) => file.endsWith('.tmp'))).toEqual([]);
  });
});

describe.skipIf(fixturesFolder === undefined)('a sentence-transformers folder', () => {
  it('keeps how vectors are made', async () => {
    const from = fresh();
    await using bert = await loadModel(join(fixturesFolder!, 'bert_mlm'), { dtype: 'f32' });
    await bert.save(from);
    const modules = ['Transformer', 'Pooling'].map((type, idx) => ({
      idx,
      name: String(idx),
      path: idx === 0 ? '' : '1_Pooling',
      type: `sentence_transformers.models.${type}`,
    }));
    mkdirSync(join(from, '1_Pooling'));
    writeFileSync(join(from, 'modules.json'), JSON.stringify(modules));
    writeFileSync(join(from, '1_Pooling/config.json'), JSON.stringify({ pooling_mode_cls_token: true }));
    const to = fresh();
    await using model = await loadModel(from, { dtype: 'f32' });
    await model.save(to);
    await using again = await loadModel(to, { dtype: 'f32' });
    const texts = ['The gate decides', 'a boat'];
    expect(await again.embed(texts)).toEqual(await model.embed(texts));
    expect(await again.embed(texts)).not.toEqual(await bert.embed(texts));
  });
});

describe.skipIf(fixturesFolder === undefined)('saving', () => {
  const mixtral = () => loadModel(join(fixturesFolder!, 'mixtral'), { dtype: 'f32' });

  it('casts where it is told to', async () => {
    await using model = await mixtral();
    const folder = fresh();
    await model.save(folder, { dtype: 'bf16' });
    const tensors = tensorsOf(folder);
    expect(new Set([...tensors.values()].map(({ format }) => format))).toEqual(new Set(['bf16']));
    expect(readJson(join(folder, 'config.json'))).toMatchObject({ torch_dtype: 'bfloat16' });
    const gguf = fresh('.gguf');
    await model.save(gguf, { dtype: 'f16' });
    const formats = tensorsOf(gguf);
    expect(formats.get('blk.0.attn_q.weight')?.format).toBe('f16');
    expect(formats.get('blk.0.attn_norm.weight')?.format).toBe('f32');
    expect(formats.get('blk.0.ffn_gate_inp.weight')?.format).toBe('f32');
  });

  it('reports progress, stops at an abort, and leaves nothing behind', async () => {
    await using model = await mixtral();
    const seen: number[] = [];
    await model.save(fresh(), { onProgress: ({ written, total }) => seen.push(written / total) });
    expect(seen.at(-1)).toBe(1);
    for (const ending of ['', '.gguf']) {
      const to = fresh(ending);
      const controller = new AbortController();
      const save = model.save(to, { signal: controller.signal, onProgress: () => controller.abort() });
      await expect(save).rejects.toMatchObject({ code: 'ERR_ABORTED' });
      expect(existsSync(to)).toBe(false);
    }
    expect(readdirSync(place).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });

  it('refuses folders with files in them, and options it does not know', async () => {
    await using model = await mixtral();
    await expect(model.save(place)).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(model.save(join(place, 'no', 'where'))).rejects.toMatchObject({ code: 'ERR_IO' });
    for (const options of [
      { dtype: 'f64' },
      { format: 'onnx' },
      { maxShardBytes: 0 },
      { shards: 1 },
      { dropHead: true },
    ])
      await expect(model.save(fresh(), options as never)).rejects.toMatchObject({ code: 'ERR_OPTION' });
    await expect(model.save(fresh('.gguf'), { dropHead: true })).rejects.toMatchObject({
      code: 'ERR_OPTION',
    });
    await expect(model.save(fresh('.switchyard'), { dtype: 'f16' })).rejects.toMatchObject({
      code: 'ERR_OPTION',
    });
  });

  it('refuses models that a file has no words for', async () => {
    await using dense = await loadModel(join(fixturesFolder!, 'llama'), { dtype: 'f32' });
    if (dense.kind !== 'decoder') throw new Error('not a decoder');
    await using sparse = await dense.upcycle({ nExperts: 4, topK: 2, gating: 'softmax-top-k' });
    await expect(sparse.save(fresh())).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      hint: expect.stringContaining('.switchyard'),
    });
    await expect(sparse.save(fresh('.gguf'))).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });
});

describe('float formats', () => {
  const bits = (value: number, format: 'f16' | 'bf16') =>
    new Uint16Array(encodeFloats(Float32Array.of(value), format).slice().buffer)[0];
  it.each<[number, number, number]>([
    // value, f16, bf16
    [0, 0, 0],
    [-0, 0x8000, 0x8000],
    [1, 0x3c00, 0x3f80],
    [-2, 0xc000, 0xc000],
    [65504, 0x7bff, 0x4780],
    [65519.996, 0x7bff, 0x4780],
    [65520, 0x7c00, 0x4780],
    [Infinity, 0x7c00, 0x7f80],
    [2 ** -14, 0x0400, 0x3880],
    [2 ** -24, 0x0001, 0x3380],
    [2 ** -25, 0x0000, 0x3300],
    [1.5 * 2 ** -25, 0x0001, 0x3340],
    [1023.5 * 2 ** -24, 0x0400, 0x3880],
    [1 + 2 ** -11, 0x3c00, 0x3f80],
    [1 + 3 * 2 ** -11, 0x3c02, 0x3f80],
    [1 + 2 ** -8, 0x3c04, 0x3f80],
    [1 + 3 * 2 ** -8, 0x3c0c, 0x3f82],
    [3.4e38, 0x7c00, 0x7f80],
  ])('%d', (value, half, bfloat) => {
    expect(bits(value, 'f16')).toBe(half);
    expect(bits(value, 'bf16')).toBe(bfloat);
  });

  it('keep NaN, and know what they hold exactly', () => {
    expect(bits(Number.NaN, 'f16') & 0x7fff).toBeGreaterThan(0x7c00);
    expect(bits(Number.NaN, 'bf16') & 0x7fff).toBeGreaterThan(0x7f80);
    expect(fitsFormat(Float32Array.of(1, -(2 ** -24), 65504, Number.NaN, -0), 'f16')).toBe(true);
    for (const value of [2 ** -25, 65505, 1 + 2 ** -11])
      expect(fitsFormat(Float32Array.of(value), 'f16')).toBe(false);
    expect(fitsFormat(Float32Array.of(1 + 2 ** -7, 2 ** 127), 'bf16')).toBe(true);
    expect(fitsFormat(Float32Array.of(1 + 2 ** -8), 'bf16')).toBe(false);
  });
});
