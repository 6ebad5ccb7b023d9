import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadModel } from '../../../src/generate/handles/load-model.js';
import { plainConfig } from '../../../src/models/packed/plain-config.js';
import { openFiles } from '../../../src/models/read/load.js';
import type { WriteOptions } from '../../../src/models/write/index.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { fixturesFolder } from '../../helpers/fixtures.js';
import { type GgufCase, variants } from '../../helpers/gguf-variants.js';
import { writeRandomFolder } from '../../helpers/random-folder.js';
import { TINY_VOCABULARY } from '../../helpers/tiny-model.js';
import { readJson } from '../../helpers/tokenizers.js';
import { logitsOf, modelFixtures, statesOf, tensorsOf } from '../../helpers/written.js';

const place = temporaryFolder();
let count = 0;
const fresh = (ending = ''): string => join(place, `m${count++}${ending}`);

/** Of what kind a folder's model is, and whether GGUF has an architecture and words for it. */
const kindOf = (name: string) => openFiles(join(fixturesFolder!, name)).kind;
const decoders = modelFixtures.filter((name) => kindOf(name) === 'decoder');
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
