// Encoders from folders of every published form, and the vectors that they give for texts.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../src/core/errors.js';
import type { EncoderModel } from '../../src/generate/encoder-model.js';
import { loadModel } from '../../src/generate/load-model.js';
import { readEmbeddingConfig } from '../../src/models/pooling.js';
import { errorOf, temporaryFolder } from '../helpers/checkpoint.js';
import { writeRandomFolder } from '../helpers/random-folder.js';
import { expectClose, expectSame } from '../parity/compare.js';

const BERT = {
  model_type: 'bert',
  architectures: ['BertModel'],
  hidden_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  intermediate_size: 20,
  max_position_embeddings: 24,
  type_vocab_size: 2,
  vocab_size: 260,
  hidden_act: 'gelu',
};

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

/** Files as sentence-transformers writes them. */
function sentenceTransformers(folder: string, pooling: object, length: number | null = null): string {
  const type = (name: string) => `sentence_transformers.models.${name}`;
  const modules = [
    { idx: 0, name: '0', path: '', type: type('Transformer') },
    { idx: 1, name: '1', path: '1_Pooling', type: type('Pooling') },
    { idx: 2, name: '2', path: '2_Normalize', type: type('Normalize') },
  ];
  mkdirSync(join(folder, '1_Pooling'), { recursive: true });
  writeFileSync(join(folder, 'modules.json'), JSON.stringify(modules));
  writeFileSync(join(folder, '1_Pooling', 'config.json'), JSON.stringify(pooling));
  writeFileSync(
    join(folder, 'sentence_bert_config.json'),
    JSON.stringify({ max_seq_length: length, do_lower_case: false }),
  );
  return folder;
}

const TEXTS = ['a cat', 'the dog ran far', 'x', 'what is this?'];

/** The definition, from the states of a text by itself. */
async function defined(model: EncoderModel, ids: readonly number[], pooling: 'mean' | 'cls') {
  const { lastHiddenState } = await model.forward({ inputIds: [ids] });
  const states = await lastHiddenState.data();
  const d = model.config.stack.dModel;
  const pooled = Array.from({ length: d }, (_, i) => {
    if (pooling === 'cls') return states[i] as number;
    return ids.reduce((sum, _id, t) => sum + (states[t * d + i] as number), 0) / ids.length;
  });
  const length = Math.hypot(...pooled);
  return pooled.map((value) => value / length);
}

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

  it.each(['mean', 'cls'] as const)('are the %s of the states, of length 1', async (pooling) => {
    const vectors = await model.embed(TEXTS.slice(0, 1), { pooling });
    for (const [i, vector] of vectors.entries()) {
      const want = await defined(model, model.tokenizer.encode(TEXTS[i] as string), pooling);
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
    await expect(model.embed(['a'], { pooling: 'max' as 'mean' })).rejects.toMatchObject({
      code: 'ERR_OPTION',
    });
  });
});

describe('sentence-transformers folders', () => {
  const cases: [string, object | undefined, object, string][] = [
    [
      'two poolings',
      undefined,
      { pooling_mode_mean_tokens: true, pooling_mode_cls_token: true },
      'ERR_UNSUPPORTED',
    ],
    ['no pooling', undefined, { pooling_mode_mean_tokens: false }, 'ERR_UNSUPPORTED'],
    ['a pooling of weights', undefined, { pooling_mode_weightedmean_tokens: true }, 'ERR_UNSUPPORTED'],
    [
      'a dense module',
      [{ type: 'sentence_transformers.models.Dense', path: '2_Dense' }],
      {},
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
