import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/folder.js';
import { type AnyModel, loadModel } from '../../src/generate/load-model.js';
import { openFiles } from '../../src/models/load.js';
import { plainConfig } from '../../src/models/plain-config.js';
import { encodeFloats, fitsFormat } from '../../src/models/write/floats.js';
import type { WriteOptions } from '../../src/models/write/index.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { type GgufCase, variants } from '../helpers/gguf-variants.js';
import { writeRandomFolder } from '../helpers/random-folder.js';
import { TINY_VOCABULARY } from '../helpers/tiny-model.js';
import { readJson } from '../helpers/tokenizers.js';

const place = mkdtempSync(join(tmpdir(), 'switchyard-write-'));
afterAll(() => rmSync(place, { recursive: true }));
let count = 0;
const fresh = (ending = ''): string => join(place, `m${count++}${ending}`);

/** Folders of models that are built. */
const folders = (fixturesFolder === undefined ? [] : readdirSync(fixturesFolder)).filter((name) => {
  if (!existsSync(join(fixturesFolder!, name, 'config.json'))) return false;
  try {
    openFiles(join(fixturesFolder!, name));
    return true;
  } catch {
    return false;
  }
});

/** Bytes of every tensor, by name. */
function tensorsOf(path: string): Map<string, { format: string; shape: readonly number[]; bytes: Buffer }> {
  const { tensors } = openCheckpoint(path);
  return new Map(
    [...tensors].map(({ name, format, shape, path: file, offset, bytes }) => [
      name,
      { format, shape, bytes: readFileSync(file).subarray(offset, offset + bytes) },
    ]),
  );
}

const ids = [[1, 5, 9, 20, 33, 7]];
async function logitsOf(model: AnyModel): Promise<Float32Array> {
  const inputs =
    model.kind === 'encoder-decoder' ? { inputIds: ids, decoderInputIds: [[0, 4, 8]] } : { inputIds: ids };
  const output = (await model.forward(inputs as never)) as unknown as Record<
    string,
    { data(): Promise<unknown> }
  >;
  return (await (output.logits ?? output.lastHiddenState).data()) as Float32Array;
}

async function statesOf(model: AnyModel): Promise<Float32Array> {
  const { lastHiddenState } = (await model.forward({ inputIds: ids } as never)) as unknown as {
    lastHiddenState: { data(): Promise<Float32Array> };
  };
  return lastHiddenState.data();
}

describe.skipIf(fixturesFolder === undefined)('a Hugging Face folder', () => {
  it('is written for every family', () => expect(folders.length).toBeGreaterThan(20));

  it.each(folders)('%s: the same tensors, config and tokenizer', async (name) => {
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

/** Of what kind a folder's model is, and whether GGUF has an architecture and words for it. */
const kindOf = (name: string) => openFiles(join(fixturesFolder!, name)).kind;
const decoders = folders.filter((name) => kindOf(name) === 'decoder');
const unsayable = [
  ['opt_pre', /family opt/],
  ['opt_post', /family opt/],
  ['bart', /family bart/],
  ['switch', /family switch_transformers/],
  ['switch_drop', /family switch_transformers/],
  // dense layers among sparse ones
  ['qwen3_moe', /moe\.layers/],
  ['qwen3_moe_step2', /moe\.layers/],
  // buckets of distances that end before 128
  ['t5', /maxDistance/],
  ['t5_v1_1', /maxDistance/],
  ['bert_mlm', /masked-lm/],
] as const;
const withGguf = decoders.filter(
  (name) => !unsayable.some(([other]) => name === other) && name !== 'prefix_lm',
);

/** Architectures whose rotary pairs stand side by side in files and apart in folders: sums over a head run in another order. */
const TURNED = /^(llama|mistral|mixtral|granitemoe|deepseek_v1)/;

/** A copy of a fixture with other words in its config. */
function changed(name: string, words: object): string {
  const to = fresh();
  cpSync(join(fixturesFolder!, name), to, { recursive: true });
  const path = join(to, 'config.json');
  writeFileSync(path, JSON.stringify({ ...readJson(path), ...words }));
  return to;
}

describe.skipIf(fixturesFolder === undefined)('a GGUF file', () => {
  it('is written for all families but those that the format does not define', () =>
    expect(withGguf.length).toBeGreaterThan(18));

  it.each(withGguf)('%s: the same model, there and back again', { timeout: 60_000 }, async (name) => {
    const from = join(fixturesFolder!, name);
    const [gguf, folder] = [fresh('.gguf'), fresh()];
    await using model = await loadModel(from, { dtype: 'f32' });
    await model.save(gguf);
    await using read = await loadModel(gguf, { dtype: 'f32' });
    const [want, got] = [await logitsOf(model), await logitsOf(read)];
    const most = Math.max(...want.map(Math.abs));
    const close = (values: Float32Array) => {
      if (!TURNED.test(name)) expect(values).toEqual(want);
      for (let i = 0; i < want.length; i++) expect(Math.abs(values[i] - want[i]) / most).toBeLessThan(2e-6);
    };
    close(got);
    expect(read.tokenizer.encode('The gate decides 42.')).toEqual(
      model.tokenizer.encode('The gate decides 42.'),
    );
    if (name === 'llama3_rope') {
      await expect(read.save(folder)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
      return;
    }
    await read.save(folder);
    const before = tensorsOf(from);
    for (const [tensor, written] of tensorsOf(folder)) {
      const source = before.get(tensor);
      if (source === undefined || source.format !== written.format || /norm/.test(tensor)) continue;
      expect(written.bytes.equals(source.bytes), tensor).toBe(true);
    }
    await using back = await loadModel(folder, { dtype: 'f32' });
    close(await logitsOf(back));
  });

  it.each<[string, object, WriteOptions]>([
    ['t5', { relative_attention_max_distance: 128 }, {}],
    ['t5_v1_1', { relative_attention_max_distance: 128 }, {}],
    ['bert_classifier', {}, {}],
    ['bert_mlm', { architectures: ['BertModel'] }, {}],
    ['bert_mlm', {}, { dropHead: true }],
  ])('%s %o %o: the same bits', async (name, words, options) => {
    await using model = await loadModel(changed(name, words), { dtype: 'f32' });
    const gguf = fresh('.gguf');
    await model.save(gguf, options);
    await using read = await loadModel(gguf, { dtype: 'f32' });
    expect(read.kind).toBe(model.kind);
    if (model.kind === 'encoder') expect(await statesOf(read)).toEqual(await statesOf(model));
    if (Object.keys({ ...words, ...options }).every((key) => key.startsWith('relative')))
      expect(await logitsOf(read)).toEqual(await logitsOf(model));
    const text = 'The gate decides 42.';
    expect(read.tokenizer.encode(text)).toEqual(model.tokenizer.encode(text));
    const again = fresh('.gguf');
    await read.save(again);
    expect(readFileSync(again).equals(readFileSync(gguf))).toBe(true);
    const folder = fresh();
    await read.save(folder);
    await using back = await loadModel(folder, { dtype: 'f32' });
    const values = model.kind === 'encoder' ? statesOf : logitsOf;
    expect(await values(back)).toEqual(await values(model));
  });

  const longRope: GgufCase = {
    name: 'phimoe, LongRoPE',
    random: {
      model_type: 'phimoe',
      hidden_size: 24,
      num_hidden_layers: 2,
      num_attention_heads: 3,
      num_key_value_heads: 1,
      intermediate_size: 20,
      vocab_size: TINY_VOCABULARY,
      num_local_experts: 4,
      max_position_embeddings: 128,
      original_max_position_embeddings: 8,
      lm_head_bias: true,
      attention_bias: true,
      rope_scaling: {
        type: 'longrope',
        short_factor: [1, 1.25, 1.5, 2],
        long_factor: [1.5, 2, 3.5, 4],
        short_mscale: 1.25,
        long_mscale: 1.25,
      },
    },
  };

  it.each([...variants, longRope])('$name: the same model', async ({ name, random, has }) => {
    const folder = await writeRandomFolder(fresh(), random!, has ? { has } : {});
    const gguf = fresh('.gguf');
    await using model = await loadModel(folder, { dtype: 'f32', contextLength: 64 });
    await model.save(gguf);
    await using read = await loadModel(gguf, { dtype: 'f32', contextLength: 64 });
    const values = model.kind === 'encoder' ? statesOf : logitsOf;
    const [want, got] = [await values(model), await values(read)];
    const most = Math.max(...want.map(Math.abs));
    if (!TURNED.test(name) && name !== 'deepseek') expect(got).toEqual(want);
    for (let i = 0; i < want.length; i++) expect(Math.abs(got[i] - want[i]) / most).toBeLessThan(5e-6);
  });

  it.each(['bert_classifier', 'bert_mlm'])('%s: classes and vectors are the same', async (name) => {
    const from = changed(name, {});
    writeFileSync(
      join(from, 'modules.json'),
      JSON.stringify([{ type: 'Transformer' }, { type: 'Pooling', path: 'p' }]),
    );
    mkdirSync(join(from, 'p'));
    writeFileSync(join(from, 'p/config.json'), JSON.stringify({ pooling_mode_cls_token: true }));
    writeFileSync(join(from, 'sentence_bert_config.json'), JSON.stringify({ max_seq_length: 5 }));
    await using model = await loadModel(from, { dtype: 'f32' });
    const gguf = fresh('.gguf');
    await model.save(gguf, { dropHead: name === 'bert_mlm' });
    await using read = await loadModel(gguf, { dtype: 'f32' });
    const folder = fresh();
    await read.save(folder);
    await using back = await loadModel(folder, { dtype: 'f32' });
    const texts = ['The gate decides which one of the experts', 'a boat'];
    for (const each of [read, back])
      if (name === 'bert_mlm') expect(await each.embed(texts)).toEqual(await model.embed(texts));
      else expect(await each.classify(texts)).toEqual(await model.classify(texts));
  });

  it.each(unsayable)('%s is refused: the format has no words for it', async (name, reason) => {
    await using model = await loadModel(join(fixturesFolder!, name), { dtype: 'f32' });
    const path = fresh('.gguf');
    await expect(model.save(path)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(reason),
    });
    expect(existsSync(path)).toBe(false);
  });

  it.each(
    (fixturesFolder === undefined ? [] : readdirSync(join(fixturesFolder, 'quant'))).filter((name) =>
      existsSync(join(fixturesFolder!, 'quant', name, 'model.gguf')),
    ),
  )('quantised, %s: every tensor byte for byte', async (name) => {
    const from = join(fixturesFolder!, 'quant', name, 'model.gguf');
    const to = fresh('.gguf');
    await using model = await loadModel(from);
    await model.save(to);
    const before = tensorsOf(from);
    const after = tensorsOf(to);
    expect([...after.keys()].sort()).toEqual(
      [...before.keys()].filter((tensor) => tensor !== 'rope_freqs.weight').sort(),
    );
    for (const [tensor, written] of after) {
      const source = before.get(tensor)!;
      expect(written.shape, tensor).toEqual(source.shape);
      expect(written.format, tensor).toBe(source.format);
      expect(written.bytes.equals(source.bytes), tensor).toBe(true);
    }
    await using again = await loadModel(to);
    expect(await logitsOf(again)).toEqual(await logitsOf(model));
    expect(plainConfig(again.config as never)).toEqual(plainConfig(model.config as never));
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
