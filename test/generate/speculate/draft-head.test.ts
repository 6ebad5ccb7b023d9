// A head that guesses from hidden states: what it guesses is what it would say without a cache, and the text is that of plain
// decoding.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { attention } from '../../../src/core/ops/attention.js';
import { add } from '../../../src/core/ops/elementwise.js';
import { takeRows } from '../../../src/core/ops/indexing.js';
import { compileOn } from '../../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../../src/core/tensor.js';
import { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import {
  type DisposableDrafter,
  draftHead,
  type PredictionHead,
  type PredictionInputs,
} from '../../../src/generate/speculate/draft-head.js';
import { drafters } from '../../../src/generate/speculate/drafters.js';
import type { DraftContext, Drafter } from '../../../src/generate/speculate/speculative.js';
import { MAX_CHUNK } from '../../../src/generate/steps/step-inputs.js';
import { decoderParts } from '../../../src/models/decoder/build.js';
import { cacheWidths } from '../../../src/models/decoder/config.js';
import { Decoder } from '../../../src/models/decoder/decoder.js';
import { packValues } from '../../../src/models/read/weights.js';
import { RmsNorm } from '../../../src/nn/norm.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import { normal, writeTinyFolder } from '../../helpers/tiny-model.js';

interface Setup {
  readonly model: LanguageModel;
  readonly head: PredictionHead;
  readonly drafter: DisposableDrafter;
}
const setups = new Map<string, Setup>();
const kinds = ['of our own', 'of the model'];

/** state + attention(norm(state) + embedding), with the parts of the model's first layer. */
function headOf({ decoder }: LanguageModel): PredictionHead {
  const { parts, config, rotary } = decoder;
  const { attention: mixing } = (parts.layers[0] as (typeof parts.layers)[number]).parts;
  const norm = new RmsNorm(null);
  return {
    cache: cacheWidths(config)[0] as PredictionHead['cache'],
    forward({ hidden, tokens, positions, attend, rows }: PredictionInputs, compute) {
      const x = add(norm.forward(hidden), norm.forward(parts.embedding.forward(tokens)));
      const y = add(x, mixing.forward(x, rotary?.table(positions) ?? null, attend, compute));
      return { hidden: y, logits: decoder.logits(takeRows(y, rows), compute) };
    },
  };
}

/** The model with a layer behind its last that predicts further ahead, of random weights. */
async function predicting({ decoder, settings, tokenizer }: LanguageModel): Promise<LanguageModel> {
  const config = { ...decoder.config, nPredictionLayers: 1 };
  const draw = generator(8);
  const parameters = new Map(decoder.parameters);
  for (const { name, kind, shape } of decoderParts(config)) {
    if (parameters.has(name)) continue;
    const values = normal(
      draw,
      shape.reduce((a, b) => a * b, 1),
      kind === 'matrix' ? 0.2 : 1,
    );
    const [rows = 0, columns = 0] = shape;
    parameters.set(
      name,
      kind === 'matrix' ? await packValues(settings.device, values, rows, columns) : tensor(values, shape),
    );
  }
  return new LanguageModel(new Decoder(config, parameters, 1024), tokenizer, settings);
}

beforeAll(async () => {
  const path = join(temporaryFolder(), 'dense');
  await writeTinyFolder(path, { eosId: null });
  const model = await loadLanguageModel(path, { contextLength: 1024, cacheTokens: 4096 });
  const head = headOf(model);
  setups.set('of our own', { model, head, drafter: drafters.head(model, head, { tokens: 3 }) });
  const ahead = await predicting(model);
  const { decoder } = ahead;
  const own: PredictionHead = {
    cache: head.cache,
    forward({ rows, attend, ...inputs }, compute) {
      const { hidden, logits } = decoder.predict(0, { ...inputs, attend: () => attend }, compute);
      return { hidden, logits: takeRows(logits, rows) };
    },
  };
  setups.set('of the model', { model: ahead, head: own, drafter: drafters.mtp(ahead, { tokens: 3 }) });
});
const open = (): LanguageModel[] => [...setups.values()].map(({ model }) => model);
afterEach(() => {
  for (const { engine } of open()) expect(engine.cache.freeBlocks).toBe(engine.cache.blocks);
});
afterAll(async () => {
  for (const { drafter } of setups.values()) {
    await drafter.dispose();
    await drafter.dispose();
  }
  for (const model of open()) await model.dispose();
});
const next = generator(4);
const ids = (n: number): number[] => Array.from({ length: n }, () => Math.floor(256 * next()));

/** The guesses of the head over a whole text, without a cache, greedily. */
async function uncached({ model, head }: Setup, text: readonly number[], most: number): Promise<number[]> {
  const { dModel } = model.config;
  const { hiddenStates = [] } = await model.forward({
    inputIds: [text.slice(0, -1)],
    outputHiddenStates: true,
  });
  let states = (await hiddenStates.at(-1)?.data()) as Float32Array;
  const tokens = text.slice(1);
  const run = compileOn(
    () => model.device,
    (hidden: Tensor, fed: Tensor, positions: Tensor, offsets: Tensor, rows: Tensor) =>
      head.forward(
        {
          hidden,
          tokens: fed,
          positions,
          rows,
          attend: (q, k, v, o) => attention(q, k, v, offsets, offsets, o),
        },
        model.dtype,
      ),
  );
  const guesses: number[] = [];
  while (guesses.length < most) {
    const n = tokens.length;
    const i32 = (...values: number[]): Tensor => tensor(Int32Array.from(values));
    const { hidden, logits } = await run(
      tensor(states, [n, dModel]),
      i32(...tokens),
      i32(...Array.from({ length: n }, (_, i) => i)),
      i32(0, n),
      i32(n - 1),
    );
    const row = (await logits.data()) as Float32Array;
    const best = row.indexOf(row.reduce((a, b) => Math.max(a, b), -Infinity));
    guesses.push(best);
    const own = ((await hidden.data()) as Float32Array).slice(-dModel);
    states = Float32Array.from([...states, ...own]);
    tokens.push(best);
  }
  run.dispose();
  return guesses;
}

/** Notes what is proposed. */
function watched(inner: Drafter): {
  drafter: Drafter;
  seen: { tokens: readonly number[]; guesses: readonly number[] }[];
} {
  const seen: { tokens: readonly number[]; guesses: readonly number[] }[] = [];
  const start: Drafter['start'] = (run) => {
    const draft = inner.start(run);
    const propose = async (context: DraftContext): Promise<readonly number[]> => {
      const guesses = await draft.propose(context);
      seen.push({ tokens: context.tokens, guesses });
      return guesses;
    };
    return { propose, close: () => draft.close() };
  };
  return { drafter: { ...inner, start }, seen };
}

describe.each(kinds)('a draft head %s', (kind) => {
  let setup: Setup;
  let model: LanguageModel;
  let head: PredictionHead;
  let drafter: DisposableDrafter;
  beforeAll(() => {
    setup = setups.get(kind) as Setup;
    ({ model, head, drafter } = setup);
  });

  it.each([1, 2, 33, 70])(
    'guesses behind a prompt of %d tokens what it says without a cache',
    async (length) => {
      const prompt = ids(length);
      const { drafter: speculation, seen } = watched(drafter);
      const plain = await model.generate(prompt, { maxTokens: 12 }).result();
      const { tokens } = await model.generate(prompt, { maxTokens: 12, speculation }).result();
      expect(tokens).toEqual(plain.tokens);
      expect(seen.length).toBeGreaterThan(2);
      for (const { tokens: text, guesses } of seen)
        expect(guesses).toEqual(await uncached(setup, text, guesses.length));
    },
  );

  it('reads a prompt longer than a step', async () => {
    const prompt = ids(MAX_CHUNK + 40);
    const { drafter: speculation, seen } = watched(drafter);
    await model.generate(prompt, { maxTokens: 4, speculation }).result();
    const [first] = seen;
    expect(first?.guesses).toEqual(await uncached(setup, first?.tokens ?? [], first?.guesses.length ?? 0));
  });

  it('leaves many texts at once, greedy and sampled, as they are', async () => {
    const jobs = Array.from({ length: 10 }, (_, i) => ({
      prompt: ids(5 + 9 * i),
      options: { maxTokens: 20, ...(i % 2 ? { temperature: 1, seed: i } : {}) },
    }));
    const got = await Promise.all(
      jobs.map(({ prompt, options }) =>
        model.generate(prompt, { ...options, speculation: drafter }).result(),
      ),
    );
    for (const [i, { prompt, options }] of jobs.entries()) {
      const { tokens } = await model.generate(prompt, options).result();
      expect(got[i]?.tokens).toEqual(tokens);
      expect(got[i]?.speculation?.drafted).toBeGreaterThan(0);
    }
  });

  it('keeps to a grammar', async () => {
    const options = { regex: '[a-e]{60}', stopTokens: [10], maxTokens: 30 };
    for (const drawn of [{}, { temperature: 1, seed: 3 }]) {
      const run = { ...options, ...drawn };
      const prompt = ids(20);
      const plain = await model.generate(prompt, run).result();
      const { drafter: speculation, seen } = watched(drafter);
      const { tokens } = await model.generate(prompt, { ...run, speculation }).result();
      expect(tokens).toEqual(plain.tokens);
      for (const { guesses } of seen)
        for (const id of guesses) expect(String.fromCharCode(id)).toMatch(/[a-e]/);
    }
  });

  it('without room in its cache guesses nothing', async () => {
    const small = draftHead(model, head, { cacheTokens: 32 });
    const run = { maxTokens: 30, speculation: small };
    const { tokens, speculation } = await model.generate(ids(10), run).result();
    expect(tokens).toHaveLength(30);
    expect(speculation?.drafted).toBeGreaterThan(0);
    const long = await model.generate(ids(60), run).result();
    expect(long.speculation?.drafted).toBe(0);
    await small.dispose();
    await expect(model.generate(ids(10), run).result()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
  });

  it.each([
    [{ tokens: 0 }, /tokens 0/],
    [{ cacheTokens: 0.5 }, /cacheTokens 0.5/],
    [{ heads: 2 }, /'heads'/],
  ])('refuses %j', (options, message) =>
    expect(() => draftHead(model, head, options as object)).toThrow(message),
  );
});

it('a model without layers that predict further ahead is refused', () => {
  const { model } = setups.get('of our own') as Setup;
  expect(() => drafters.mtp(model)).toThrow(/without layers that predict further ahead/);
});
