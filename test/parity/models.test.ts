import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../src/core/errors.js';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { samplers } from '../../src/generate/samplers/index.js';
import { Sampling } from '../../src/generate/steps/sampling.js';
import type { ForwardInputs, ForwardOutput } from '../../src/models/decoder/forward.js';
import { openModel } from '../../src/models/read/load.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { expectClose, expectSame, expectTwins, worst } from './compare.js';
import type { Expected, ExpectedInput, GreedyRow } from './expected.js';
import { rowsOf } from './expected.js';
import {
  type FixtureFolder,
  fixtureFolders,
  ofKind,
  ownFolders,
  readJson,
  StoredTensors,
} from './folders.js';
import { reasonFor } from './not-yet.js';

const TOLERANCE = { logits: 1e-4, hidden: 1e-4, routerLogits: 1e-4, routerWeights: 1e-5, loss: 1e-5 };

/** Folders of encoders and encoder-decoders have test files of their own. */
const OTHERS = ['seq2seq', 'masked_lm', 'sequence_classification', 'token_classification'];
const folders = [...ofKind('model'), ...ofKind('gguf'), ...ownFolders].filter(
  ({ path }) => !OTHERS.includes(readJson(join(path, 'expected.json')).kind),
);
const pathOf = ({ kind, path }: FixtureFolder): string => (kind === 'gguf' ? join(path, 'model.gguf') : path);

/** The reason why a folder's model is not built, by its own files. */
function excuseOf(folder: FixtureFolder, expected: Expected): string | undefined {
  if (folder.kind === 'gguf') return reasonFor('architectures', String(expected.architecture));
  return reasonFor('modelTypes', String(readJson(join(folder.path, 'config.json')).model_type));
}

describe('reference models', () => {
  it.skipIf(fixturesFolder === undefined)('are there', () =>
    expect(fixtureFolders.length).toBeGreaterThan(0),
  );

  for (const folder of folders) {
    const expected: Expected = readJson(join(folder.path, 'expected.json'));
    const excuse = excuseOf(folder, expected);
    if (excuse === undefined) describe(folder.name, () => testDecoder(folder, expected));
    else it(`${folder.name}: not built yet (${excuse})`, () => expectRefused(pathOf(folder)));
  }

  afterAll(() => {
    if (process.env.SWITCHYARD_PARITY_REPORT === '1') console.log(Object.fromEntries(worst));
  });
});

function expectRefused(path: string): void {
  let error: unknown;
  try {
    openModel(path);
  } catch (thrown) {
    error = thrown;
  }
  expect(error, 'it opens: take it off the list in not-yet.ts').toBeInstanceOf(SwitchyardError);
  expect((error as SwitchyardError).code).toBe('ERR_UNSUPPORTED_ARCH');
}

function testDecoder(folder: FixtureFolder, expected: Expected): void {
  const stored = new StoredTensors(join(folder.path, 'expected.safetensors'));
  const names = Object.keys(expected.inputs);
  const layers = expected.moe_layers ?? [];
  const greedy = expected.greedy ?? [];
  const outputs = new Map<string, ForwardOutput>();
  let model: LanguageModel;

  beforeAll(async () => {
    expect(['causal', 'gguf'], 'kind of the model').toContain(expected.kind);
    // room for every batch of a fixture, however short the model's own context is
    model = await loadLanguageModel(pathOf(folder), { dtype: 'f32', cacheTokens: 4096 });
    for (const name of names) outputs.set(name, await model.forward(inputsOf(expected.inputs[name])));
  });
  afterAll(() => model?.dispose());

  it.each(names)('%s: logits', async (name) => {
    const { logits } = outputs.get(name) as ForwardOutput;
    const want = stored.floats(`${name}.logits`);
    expect(logits.shape).toEqual(want.shape);
    const options = { tolerance: TOLERANCE.logits, mask: maskOf(expected.inputs[name]) };
    expectClose(`${name} logits`, await logits.data(), want.data, options);
  });

  const withHidden = names.filter((name) => stored.has(`${name}.hidden_states.0`));
  it.each(withHidden)('%s: hidden states', async (name) => {
    const { hiddenStates = [] } = outputs.get(name) as ForwardOutput;
    expect(stored.has(`${name}.hidden_states.${hiddenStates.length}`)).toBe(false);
    for (const [i, state] of hiddenStates.entries()) {
      const want = stored.floats(`${name}.hidden_states.${i}`);
      const options = { tolerance: TOLERANCE.hidden, mask: maskOf(expected.inputs[name]) };
      expectClose(`${name} ${i} hidden`, await state.data(), want.data, options);
    }
  });

  it('has its sparse layers', () => expect(model.config.moe?.layers ?? []).toEqual(layers));

  it.each(layers.length > 0 ? names : [])('%s: routing', async (name) => {
    const { routing = [] } = outputs.get(name) as ForwardOutput;
    const mask = maskOf(expected.inputs[name]);
    for (const [i, layer] of layers.entries()) {
      const at = `${name}.router.${layer}`;
      const { routerLogits, expertIds, combineWeights } = routing[i] as (typeof routing)[number];
      expectSame(`${at} experts`, await expertIds.data(), stored.get(`${at}.experts`).data, mask);
      expectClose(`${at} router-logits`, await routerLogits.data(), stored.floats(`${at}.logits`).data, {
        tolerance: TOLERANCE.routerLogits,
        mask,
      });
      expectClose(`${at} router-weights`, await combineWeights.data(), stored.floats(`${at}.weights`).data, {
        tolerance: TOLERANCE.routerWeights,
        absolute: true,
        mask,
      });
    }
  });

  const withLoss = names.filter((name) => typeof expected.inputs[name]?.aux_loss === 'number');
  it.each(withLoss)('%s: balance loss', async (name) => {
    const { auxLoss } = outputs.get(name) as ForwardOutput;
    const want = expected.inputs[name]?.aux_loss as number;
    expectClose(`${name} loss`, [await (auxLoss as NonNullable<typeof auxLoss>).item()], [want], {
      tolerance: TOLERANCE.loss,
    });
  });

  const runs = greedy.map((run, i) => ({ run, title: `greedy run ${i} of ${run.input}`, i }));
  const inputOf = (name: string): ExpectedInput => expected.inputs[name] as ExpectedInput;

  // Prompts with a prefix, and runs made without a cache.
  const uncached = runs.filter(({ run }) => run.prefix_len !== undefined || run.use_cache === false);
  it.each(uncached)('$title, recomputed at each step', async ({ run }) => {
    for (const row of rowsOf(run, inputOf(run.input))) {
      const logits = await uncachedLogits(model, row);
      expect(logits.map(argmax)).toEqual(row.continuation);
    }
  });

  it.each(runs)('$title, each row alone', async ({ run }) => {
    for (const { prompt, continuation, prefixLength } of rowsOf(run, inputOf(run.input))) {
      const result = await model.generate(prompt, { ...optionsOf(run), ...prefixOf(prefixLength) }).result();
      expect(result.tokens).toEqual(continuation);
    }
  });

  it.each(runs)('$title, all rows as one batch', async ({ run }) => {
    const rows = rowsOf(run, inputOf(run.input));
    const results = await model.generateAll(
      rows.map((row) => row.prompt),
      { ...optionsOf(run), prefixLengths: rows.map((row) => row.prefixLength ?? 0) },
    );
    expect(results.map((r) => r.tokens)).toEqual(rows.map((row) => row.continuation));
  });

  const steps = stored.names().filter((name) => name.endsWith('.greedy.step_logits'));
  it.each(steps)('%s, cached and not', async (name) => {
    const run = greedy.find(({ input }) => name === `${input}.greedy.step_logits`);
    if (!run) throw new Error(`no greedy run for ${name}`);
    const { data, shape } = stored.floats(name); // [B, steps, V]
    const [, count = 0, vocabulary = 0] = shape;
    for (const [b, row] of rowsOf(run, inputOf(run.input)).entries()) {
      const start = b * count * vocabulary;
      const want = data.subarray(start, start + row.continuation.length * vocabulary);
      const whole = await uncachedLogits(model, row);
      expectClose('step logits', flat(whole), want, { tolerance: TOLERANCE.logits });
      const stepped = await cachedLogits(model, row);
      expectClose('step logits', flat(stepped), want, { tolerance: TOLERANCE.logits });
      expectTwins('cached and uncached logits', flat(stepped), flat(whole));
    }
  });

  const { text } = expected;
  it.skipIf(!text)('text of its prompt and greedy continuation', async () => {
    const { prompt, prompt_ids, single_is_truncated, greedy_continuation } = text as NonNullable<typeof text>;
    expect(model.tokenizer.encode(prompt)).toEqual(prompt_ids);
    const single = inputOf('single').input_ids[0] as number[];
    expect(single).toEqual(single_is_truncated ? prompt_ids.slice(0, single.length) : prompt_ids);
    const run = greedy.find(({ input }) => input === 'single') as (typeof greedy)[number];
    const [row] = rowsOf(run, inputOf('single')) as [GreedyRow];
    const decoded = model.tokenizer.decode(row.continuation, { skipSpecialTokens: true });
    expect(decoded).toBe(greedy_continuation);
    let streamed = '';
    const options = { ...optionsOf(run), ...prefixOf(row.prefixLength) };
    for await (const part of model.generate(single, options)) streamed += part.text;
    expect(streamed).toBe(greedy_continuation);
  });

  it.each(expected.tokenizer?.cases ?? [])('tokenizer: $text', (c) => {
    const { tokenizer } = model;
    expect(tokenizer.encode(c.text, { addSpecialTokens: false })).toEqual(c.ids);
    expect(c.ids.map((id) => tokenizer.idToToken(id))).toEqual(c.tokens);
    expect(tokenizer.encode(c.text)).toEqual(c.ids_with_special);
    expect(tokenizer.decode(c.ids, { skipSpecialTokens: true })).toBe(c.decoded);
    expect(tokenizer.decode(c.ids_with_special)).toBe(c.decoded_with_special);
  });

  it('has no stored tensor that was not compared', () => expect(stored.unused()).toEqual([]));
}

const inputsOf = (input: ExpectedInput | undefined): ForwardInputs => {
  const { input_ids, attention_mask, position_ids, prefix_len } = input as ExpectedInput;
  return {
    inputIds: input_ids,
    attentionMask: attention_mask,
    ...(position_ids ? { positionIds: position_ids } : {}),
    ...(prefix_len ? { prefixLengths: prefix_len } : {}),
    outputHiddenStates: true,
    outputRouting: true,
  };
};

const maskOf = (input: ExpectedInput | undefined): number[] => (input as ExpectedInput).attention_mask.flat();

const prefixOf = (prefixLength: number | null) => (prefixLength === null ? {} : { prefixLength });

const optionsOf = (run: { eos_token_id: number[] | number | null; max_new_tokens: number }) => ({
  maxTokens: run.max_new_tokens,
  ignoreEos: true,
  stopTokens: [run.eos_token_id ?? []].flat(),
});

/** The logits behind each new token, by a whole forward pass for each. */
async function uncachedLogits(model: LanguageModel, row: GreedyRow): Promise<Float32Array[]> {
  const all: Float32Array[] = [];
  for (let n = 0; n < row.continuation.length; n++) {
    const ids = [...row.prompt, ...row.continuation.slice(0, n)];
    const prefix = row.prefixLength === null ? {} : { prefixLengths: [row.prefixLength] };
    const { logits } = await model.forward({ inputIds: [ids], ...prefix });
    all.push((await logits.data()).slice(-model.config.vocabSize) as Float32Array);
  }
  return all;
}

/** The logits behind each new token, step by step over the cache. */
async function cachedLogits(model: LanguageModel, row: GreedyRow): Promise<Float32Array[]> {
  const sequence = model.engine.newSequence();
  const all: Float32Array[] = [];
  for (let n = 0; n < row.continuation.length; n++) {
    const tokens = n === 0 ? row.prompt : [row.continuation[n - 1] as number];
    const fed = {
      sequence,
      tokens,
      sampling: new Sampling(samplers.greedy()),
      prefixLength: row.prefixLength ?? 0,
    };
    const { logits } = await model.engine.step([fed], { logits: true });
    all.push(logits as Float32Array);
  }
  sequence.release();
  return all;
}

const flat = (rows: Float32Array[]): Float32Array => Float32Array.from(rows.flatMap((row) => [...row]));

function argmax(values: ArrayLike<number>): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}
