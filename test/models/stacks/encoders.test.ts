// Encoders from folders of every published form, and the vectors that they give for texts.
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../../src/core/errors.js';
import type { EncoderModel } from '../../../src/generate/handles/encoder-model.js';
import { loadModel } from '../../../src/generate/handles/load-model.js';
import { POOLINGS, type Pooling, readEmbeddingConfig } from '../../../src/models/stacks/pooling.js';
import { errorOf, temporaryFolder } from '../../helpers/checkpoint.js';
import { writeRandomFolder } from '../../helpers/random-folder.js';
import { sentenceTransformers, writeDense } from '../../helpers/sentence-transformers.js';
import { TINY_BERT } from '../../helpers/tiny-stacks.js';
import { expectClose, expectSame } from '../../parity/compare.js';

const BERT = { ...TINY_BERT, max_position_embeddings: 24 };

const root = temporaryFolder();
const open: EncoderModel[] = [];
async function load(path: string): Promise<EncoderModel> {
  const model = await loadModel(path, { dtype: 'f32' });
  if (model.kind !== 'encoder') throw new Error(`${path} is no encoder`);
  open.push(model);
  return model;
}
afterAll(() => Promise.all(open.map((model) => model.dispose())));

const write = (name: string, config: object = {}, options: Parameters<typeof writeRandomFolder>[2] = {}) =>
  writeRandomFolder(join(root, name), { ...BERT, ...config }, options);

const TEXTS = ['a cat', 'the dog ran far', 'x', 'what is this?'];

/** The definition, from the states of a text by itself. */
async function defined(model: EncoderModel, ids: readonly number[], pooling: Pooling) {
  const { lastHiddenState } = await model.forward({ inputIds: [ids] });
  const states = await lastHiddenState.data();
  const d = model.config.stack.dModel;
  const pooled = Array.from({ length: d }, (_, i) => {
    const channel = ids.map((_, t) => states[t * d + i] as number);
    const n = channel.length;
    const total = channel.reduce((sum, x) => sum + x, 0);
    const by: Readonly<Record<Pooling, number>> = {
      cls: channel[0] as number,
      lasttoken: channel[n - 1] as number,
      max: Math.max(...channel),
      mean: total / n,
      mean_sqrt_len_tokens: total / Math.sqrt(n),
      weightedmean: channel.reduce((sum, x, t) => sum + x * (t + 1), 0) / ((n * (n + 1)) / 2),
    };
    return by[pooling];
  });
  return pooled;
}

const unit = (vector: readonly number[]): number[] => {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
};

describe('vectors of texts', () => {
  let model: EncoderModel;
  beforeAll(async () => {
    model = await load(
      sentenceTransformers(
        await write('mean'),
        { pooling_mode_mean_tokens: true, pooling_mode_cls_token: false },
        9,
      ),
    );
  });

  it.each(POOLINGS)('are the %s of the states, of length 1', async (pooling) => {
    const texts = TEXTS.slice(0, 3).map((text) => text.slice(0, 9));
    const vectors = await model.embed(texts, { pooling });
    for (const [i, vector] of vectors.entries()) {
      const want = unit(await defined(model, model.tokenizer.encode(texts[i] as string), pooling));
      expectClose('vector', vector, want, { tolerance: 1e-5 });
      expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
    }
  });

  it('are the same bits alone and together, from texts and from ids', async () => {
    const together = await model.embed(TEXTS);
    for (const [i, text] of TEXTS.entries()) {
      const [alone] = await model.embed([text]);
      const [ofIds] = await model.embed([model.tokenizer.encode(text)]);
      expectSame('vector', together[i] as Float32Array, alone as Float32Array);
      expectSame('vector', ofIds as Float32Array, alone as Float32Array);
    }
    expect(await model.embed([])).toEqual([]);
  });

  it('of long texts are those of what the folder lets stand, the last token kept', async () => {
    const ids = model.tokenizer.encode('0123456789abcdef');
    const [cut] = await model.embed([ids]);
    const [want] = await model.embed([[...ids.slice(0, 8), ids.at(-1) as number]]);
    expectSame('vector', cut as Float32Array, want as Float32Array);
  });

  it('take the pooling of the folder', async () => {
    const folder = sentenceTransformers(await write('cls'), { pooling_mode: 'cls' });
    const other = await load(folder);
    const [got] = await other.embed(['some text']);
    const [want] = await other.embed(['some text'], { pooling: 'cls' });
    const [mean] = await other.embed(['some text'], { pooling: 'mean' });
    expectSame('vector', got as Float32Array, want as Float32Array);
    expect(mean).not.toEqual(want);
  });

  it('are refused for what is no text or pooling', async () => {
    await expect(model.embed([[]])).rejects.toMatchObject({ code: 'ERR_OPTION' });
    await expect(model.embed([[9999]])).rejects.toMatchObject({ code: 'ERR_OPTION' });
    for (const pooling of ['most' as 'mean', [], ['mean', 'first' as 'cls']] as const)
      await expect(model.embed(['a'], { pooling })).rejects.toMatchObject({ code: 'ERR_OPTION' });
  });
});

describe('sentence-transformers folders', () => {
  const type = (name: string, path = '') => ({ type: `sentence_transformers.models.${name}`, path });
  const cases: [string, object | undefined, object, string][] = [
    ['no pooling', undefined, { pooling_mode_mean_tokens: false }, 'ERR_UNSUPPORTED'],
    ['a pooling nobody knows', undefined, { pooling_mode_median_tokens: true }, 'ERR_UNSUPPORTED'],
    ['a pooling of a name nobody knows', undefined, { pooling_mode: 'mean+median' }, 'ERR_UNSUPPORTED'],
    ['a dense module that is not there', [type('Dense', '2_Dense')], {}, 'ERR_IO'],
    ['a module nobody knows', [type('WeightedLayerPooling', '2_W')], {}, 'ERR_UNSUPPORTED'],
    [
      'two poolings one behind the other',
      [type('Pooling', '1_Pooling'), type('Pooling', '1_Pooling')],
      { pooling_mode: 'mean' },
      'ERR_UNSUPPORTED',
    ],
    [
      'a pooling behind other modules',
      [type('Normalize'), type('Pooling', '1_Pooling')],
      { pooling_mode: 'mean' },
      'ERR_UNSUPPORTED',
    ],
    ['modules that are no list', {}, {}, 'ERR_FORMAT'],
    ['a path out of the folder', [{ type: 'x.Pooling', path: '../../etc' }], {}, 'ERR_FORMAT'],
  ];
  it.each(cases)('with %s are refused', (name, modules, pooling, code) => {
    const folder = sentenceTransformers(join(root, `refused ${name}`), pooling);
    if (modules !== undefined) writeFileSync(join(folder, 'modules.json'), JSON.stringify(modules));
    expect(errorOf(() => readEmbeddingConfig(folder)).code).toBe(code);
  });
});

describe('modules behind the pooling', () => {
  const text = 'a dense text';

  it('are taken in their order: poolings together, dense layers, lengths between them', async () => {
    const folder = await write('dense');
    sentenceTransformers(
      folder,
      { pooling_mode_mean_tokens: true, pooling_mode_max_tokens: true, pooling_mode_cls_token: true },
      null,
      ['Dense', 'Normalize', 'Dense', 'Dropout', 'Normalize'],
    );
    const first = await writeDense(join(folder, '2_Dense'), [10, 36]);
    const second = await writeDense(join(folder, '4_Dense'), [7, 10], {
      bias: false,
      torch: 'linear.Identity',
    });
    const model = await load(folder);
    const ids = model.tokenizer.encode(text);
    const pooled = [];
    for (const pooling of ['cls', 'max', 'mean'] as const)
      pooled.push(...(await defined(model, ids, pooling)));
    const want = unit(second(unit(first(pooled))));
    const [got, again] = await model.embed([text, text]);
    expectClose('vector', got as Float32Array, want, { tolerance: 1e-5 });
    expectSame('vector', again as Float32Array, got as Float32Array);
    await expect(model.embed([text], { pooling: 'mean' })).rejects.toMatchObject({ code: 'ERR_OPTION' });

    const saved = join(root, 'dense saved');
    await model.save(saved);
    expectSame('vector', (await (await load(saved)).embed([text]))[0] as Float32Array, got as Float32Array);
    await expect(model.save(join(root, 'dense.gguf'))).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });

  it.each([
    ['an activation nobody knows', { torch: 'activation.Mish' }, [5, 12], 'ERR_UNSUPPORTED'],
    ['another width than the pooling', {}, [5, 13], 'ERR_OPTION'],
  ] as const)('are refused with %s', async (name, options, sizes, code) => {
    const folder = sentenceTransformers(await write(name), { pooling_mode: 'mean' }, null, ['Dense']);
    await writeDense(join(folder, '2_Dense'), sizes, options);
    const embedding = load(folder).then((model) => model.embed([text]));
    await expect(embedding).rejects.toMatchObject({ code });
  });

  it('are refused with weights of other sizes, none, and tensors that nobody takes', async () => {
    const folder = sentenceTransformers(await write('odd'), { pooling_mode: 'mean' }, null, ['Dense']);
    const dense = join(folder, '2_Dense');
    await writeDense(dense, [5, 12]);
    const config = { in_features: 12, out_features: 5, bias: false, activation_function: 'Tanh' };
    const put = (change: object) =>
      writeFileSync(join(dense, 'config.json'), JSON.stringify({ ...config, ...change }));
    put({ out_features: 6 });
    await expect(load(folder)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(/linear\.weight/),
    });
    put({});
    await expect(load(folder)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(/linear\.bias/),
    });
    put({ in_features: 0 });
    await expect(load(folder)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(/in_features/),
    });
    put({ module_input_name: 'token_embeddings' });
    await expect(load(folder)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(/module_input_name/),
    });
    rmSync(join(dense, 'model.safetensors'));
    put({});
    await expect(load(folder)).rejects.toMatchObject({
      code: 'ERR_UNSUPPORTED',
      message: expect.stringMatching(/model\.safetensors/),
    });
  });

  it('change texts first, where the folder says so', async () => {
    const folder = sentenceTransformers(await write('prompted'), { pooling_mode: 'weightedmean+lasttoken' });
    const rules = join(folder, 'sentence_bert_config.json');
    writeFileSync(rules, JSON.stringify({ max_seq_length: null, do_lower_case: true }));
    const settings = { default_prompt_name: 'query', prompts: { query: 'q: ' } };
    writeFileSync(join(folder, 'config_sentence_transformers.json'), JSON.stringify(settings));
    const model = await load(folder);
    expect(model.embedding.pooling).toEqual(['weightedmean', 'lasttoken']);
    const ids = model.tokenizer.encode('q: abc');
    const want = [
      ...(await defined(model, ids, 'weightedmean')),
      ...(await defined(model, ids, 'lasttoken')),
    ];
    expectClose('vector', (await model.embed(['aBC']))[0] as Float32Array, unit(want), { tolerance: 1e-5 });
    await expect(model.save(join(root, 'prompted.gguf'))).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });
});

describe('two texts together', () => {
  const PAIR = [
    { SpecialToken: { id: '<s>', type_id: 0 } },
    { Sequence: { id: 'A', type_id: 0 } },
    { SpecialToken: { id: '</s>', type_id: 0 } },
    { Sequence: { id: 'B', type_id: 1 } },
    { SpecialToken: { id: '</s>', type_id: 1 } },
  ];
  let model: EncoderModel;
  beforeAll(async () => {
    const folder = await write('pairs', {
      architectures: ['BertForSequenceClassification'],
      id2label: { 0: 'RELEVANT' },
    });
    const path = join(folder, 'tokenizer.json');
    const json = JSON.parse(readFileSync(path, 'utf8'));
    const special = (id: string, n: number) => [id, { id, ids: [n], tokens: [id] }];
    json.post_processor = {
      type: 'TemplateProcessing',
      single: PAIR.slice(0, 3),
      pair: PAIR,
      special_tokens: Object.fromEntries([special('<s>', 257), special('</s>', 256)]),
    };
    writeFileSync(path, JSON.stringify(json));
    model = await load(folder);
  });

  it('are classified as segments of one text, alone and among others', async () => {
    const pairs = [
      { text: 'why?', pair: 'because' },
      { text: 'x', pair: 'y' },
    ];
    const found = await model.classify(['why?', ...pairs]);
    for (const [i, { text, pair }] of pairs.entries()) {
      const { ids, types } = model.tokenizer.encodePair(text, pair);
      const n = text.length + 2;
      expect(types).toEqual(ids.map((_, t) => (t < n ? 0 : 1)));
      const { logits } = await model.forward({ inputIds: [ids], tokenTypeIds: [types] });
      const want = 1 / (1 + Math.exp(-((await logits.data())[0] as number)));
      expect(found[i + 1]).toMatchObject({ label: 'RELEVANT' });
      expect(found[i + 1]?.score).toBeCloseTo(want, 5);
      const flat = await model.forward({ inputIds: [ids] });
      expect((await flat.logits.data())[0]).not.toBeCloseTo((await logits.data())[0] as number, 3);
    }
  });

  it('give a vector of their segments', async () => {
    const { ids, types } = model.tokenizer.encodePair('a', 'bcd');
    const { lastHiddenState } = await model.forward({ inputIds: [ids], tokenTypeIds: [types] });
    const first = unit([...(await lastHiddenState.data())].slice(0, 12));
    const [got] = await model.embed([{ text: 'a', pair: 'bcd' }], { pooling: 'cls' });
    expectClose('vector', got as Float32Array, first, { tolerance: 1e-5 });
  });

  it('that are too long are cut to what the model takes', async () => {
    const [found] = await model.classify([{ text: 'a'.repeat(50), pair: 'b'.repeat(8) }]);
    const [want] = await model.classify([{ text: 'a'.repeat(13), pair: 'b'.repeat(8) }]);
    expect(found).toEqual(want);
  });
});

describe('published forms of files', () => {
  const ids = [[5, 6, 7, 8]];
  const states = async (model: EncoderModel) =>
    (await model.forward({ inputIds: ids })).lastHiddenState.data();

  it.each<[string, (name: string) => string]>([
    ['without a prefix', (name) => name.replace(/^bert\./, '')],
    [
      'with gamma and beta',
      (name) =>
        name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta'),
    ],
  ])('%s give the same', async (name, rename) => {
    const plain = await load(await write(`plain ${name}`));
    const renamed = await load(await write(`renamed ${name}`, {}, { rename }));
    expectSame('states', await states(renamed), await states(plain));
  });

  it('have a pooler where there is one', async () => {
    const has = (name: string) => name === 'bert.pooler.dense.weight';
    const model = await load(await write('pooler', {}, { has }));
    const { poolerOutput, lastHiddenState } = await model.forward({ inputIds: ids });
    expect(poolerOutput?.shape).toEqual([1, 12]);
    expect(lastHiddenState.shape).toEqual([1, 4, 12]);
  });

  it('classify tokens', async () => {
    const labels = { 0: 'O', 1: 'PER', 2: 'LOC' };
    const model = await load(
      await write('tokens', { architectures: ['BertForTokenClassification'], id2label: labels }),
    );
    const [long, short] = await model.classifyTokens(['abcde', 'xy']);
    expect([long?.length, short?.length]).toEqual([5, 2]);
    const [alone] = await model.classifyTokens(['xy']);
    for (const [t, c] of (alone ?? []).entries()) {
      expect(short?.[t]?.label).toBe(c.label);
      expect(Object.values(c.scores).reduce((a, b) => a + b)).toBeCloseTo(1, 5);
    }
  });

  it('score each class by itself where several may hold', async () => {
    const model = await load(
      await write('several', {
        architectures: ['BertForSequenceClassification'],
        problem_type: 'multi_label_classification',
        id2label: { 0: 'a', 1: 'b' },
      }),
    );
    const { logits, probabilities } = await model.forward({ inputIds: ids });
    const want = Array.from(await logits.data(), (x) => 1 / (1 + Math.exp(-x)));
    expectClose('probabilities', (await probabilities?.data()) as Float32Array, want, { tolerance: 1e-6 });
  });

  it('without a head give no logits, and no encoder gives text', async () => {
    const model = await load(await write('bare'));
    const out = await model.forward({ inputIds: ids });
    expect(errorOf(() => out.logits).code).toBe('ERR_UNSUPPORTED');
    expect(errorOf(() => model.generate('a')).message).toMatch(/\[generate\] got an encoder model, expected/);
    await expect(model.classify(['a'])).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
  });

  it.each([
    ['rows longer than its positions', { inputIds: [Array(25).fill(1)] }, 'ERR_CONTEXT_LENGTH'],
    ['uneven rows', { inputIds: [[1, 2], [1]] }, 'ERR_SHAPE'],
    ['no rows', { inputIds: [] }, 'ERR_SHAPE'],
    ['a mask of other numbers', { inputIds: [[1]], attentionMask: [[2]] }, 'ERR_OPTION'],
    ['a segment it has not', { inputIds: [[1]], tokenTypeIds: [[2]] }, 'ERR_OPTION'],
    ['an option it has not', { inputIds: [[1]], prefixLengths: [1] }, 'ERR_OPTION'],
  ])('%s are refused', async (_, inputs, code) => {
    const model = await load(await write(`refuses ${code}`));
    const thrown = await model.forward(inputs).catch((error: unknown) => error);
    expect(thrown).toBeInstanceOf(SwitchyardError);
    expect((thrown as SwitchyardError).code).toBe(code);
  });

  it.each([
    ['relative positions', { position_embedding_type: 'relative_key' }],
    ['another head', { architectures: ['BertForQuestionAnswering'] }],
    ['more heads than width', { num_attention_heads: 40 }],
    [
      'names that are no list of classes',
      { architectures: ['BertForSequenceClassification'], id2label: { 1: 'a' } },
    ],
    ['a key that nobody knows', { use_moonlight: true }],
  ])('%s are refused by name', async (name, config) => {
    await write(`config ${name}`);
    writeFileSync(join(root, `config ${name}`, 'config.json'), JSON.stringify({ ...BERT, ...config }));
    await expect(loadModel(join(root, `config ${name}`))).rejects.toMatchObject({
      code: expect.stringMatching(/ERR_(FORMAT|UNSUPPORTED)/),
      message: expect.stringContaining('config.json'),
    });
  });
});
