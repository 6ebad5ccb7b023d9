// Whoever guesses, and however badly: the text is that of plain decoding, greedy and for every seed.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { drafters } from '../../../src/generate/speculate/drafters.js';
import type { Drafter } from '../../../src/generate/speculate/speculative.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import { writeTinyFolder } from '../../helpers/tiny-model.js';

const folder = temporaryFolder();
const CONTEXT = 256;
let model: LanguageModel;
let other: LanguageModel;
beforeAll(async () => {
  const [large, small] = [join(folder, 'large'), join(folder, 'small')];
  await writeTinyFolder(large, { nExperts: 4, eosId: null });
  await writeTinyFolder(small, { nLayers: 1, seed: 2, eosId: null });
  model = await loadLanguageModel(large, { contextLength: CONTEXT, cacheTokens: 2048 });
  other = await loadLanguageModel(small, { contextLength: CONTEXT, cacheTokens: 2048 });
});
afterEach(() => {
  for (const m of [model, other]) expect(m.engine.cache.freeBlocks).toBe(m.engine.cache.blocks);
});
afterAll(() => Promise.all([model.dispose(), other.dispose()]));

const prompt = [...Buffer.from('one two one two one two three one two')];
const next = generator(3);
/** Guesses what it likes. */
const drafter = (propose: (text: readonly number[], most: number) => number[], tokens = 6): Drafter => ({
  name: 'test',
  tokens,
  start: () => ({ propose: ({ tokens: text, most }) => propose(text, most), close: async () => undefined }),
});
const kinds: Record<string, () => Drafter> = {
  ngram: () => drafters.ngram(),
  'ngram of one token': () => drafters.ngram({ longest: 1, shortest: 1, tokens: 16 }),
  'the model itself': () => drafters.model(model),
  'another model': () => drafters.model(other, { tokens: 3 }),
  nothing: () => drafter(() => []),
  nonsense: () => drafter((_, most) => Array.from({ length: most }, () => Math.floor(256 * next()))),
  'ids that are none': () => drafter((_, most) => [65, 1e6, -1, 0.5].slice(0, most)),
  'more than asked for': () => drafter(() => new Array<number>(50).fill(7)),
};

describe.each(Object.keys(kinds))('guesses of %s', (kind) => {
  const options: [string, GenerateOptions][] = [
    ['greedy', {}],
    ['with a penalty', { repetitionPenalty: 1.3 }],
    ['sampled', { temperature: 1, seed: 9 }],
    ['sampled from few', { temperature: 0.7, topK: 5, topP: 0.9, seed: 2 }],
    ['with mirostat', { mirostat: { tau: 3, eta: 0.5 }, seed: 4 }],
    [
      'with mirostat behind a hook',
      { mirostat: {}, logitsHook: (scores) => void scores.fill(-9, 0, 9), seed: 4 },
    ],
    ['of a grammar', { regex: '(one |two |three ){40}', stopTokens: [10] }],
    ['of a grammar, with mirostat', { regex: '[a-c ]{80}', stopTokens: [10], mirostat: {}, seed: 5 }],
    ['of a grammar, sampled', { regex: '[a-c ]{80}', stopTokens: [10], temperature: 1, seed: 5 }],
  ];
  it.each(options)('%s', async (_title, given) => {
    const speculation = (kinds[kind] as () => Drafter)();
    const run = { maxTokens: 60, ...given };
    const plain = await model.generate(prompt, run).result();
    const generation = model.generate(prompt, { ...run, speculation });
    let text = '';
    for await (const part of generation) text += part.text;
    const { speculation: counts, timings: _timings, ...result } = await generation.result();
    const { timings: _, ...want } = plain;
    expect(result).toEqual(want);
    expect(text).toBe(plain.text);
    // every step gives one token of its own and those that were guessed right
    expect((counts?.steps as number) + (counts?.accepted as number)).toBe(59);
    if (kind === 'the model itself') expect(counts?.accepted).toBe(counts?.drafted);
  });

  it('ends where plain decoding ends', async () => {
    const speculation = (kinds[kind] as () => Drafter)();
    const { tokens, text } = await model.generate(prompt, { maxTokens: 40 }).result();
    const ends: GenerateOptions[] = [
      { stopTokens: [tokens[21] as number] },
      { stop: text.slice(11, 13) },
      { maxTokens: 1 },
      { maxTokens: 2 },
      { maxTokens: 0 },
      { regex: '[a-d]{12}', stopTokens: [10] },
    ];
    for (const end of ends) {
      const run = { maxTokens: 40, ...end };
      const { timings: _, ...want } = await model.generate(prompt, run).result();
      const {
        timings: __,
        speculation: ___,
        ...got
      } = await model.generate(prompt, { ...run, speculation }).result();
      expect(got).toEqual(want);
    }
  });
});

it('a guessed end counts, and nothing is guessed behind it', async () => {
  const options = { regex: 'abcdef', stopTokens: [10], maxTokens: 20 };
  const run = { ...options, speculation: drafters.model(model, { tokens: 16 }) };
  const { tokens, speculation } = await model.generate(prompt, run).result();
  expect(tokens).toEqual([...Buffer.from('abcdef\n')]);
  expect(speculation).toEqual({ steps: 1, drafted: 6, accepted: 6 });
  const beyond = drafter(() => [...Buffer.from('bcdef\n'), 65, 66, 67], 9);
  const oracle = await model.generate(prompt, { ...options, speculation: beyond }).result();
  expect(oracle.tokens).toEqual(tokens);
  expect(oracle.speculation).toEqual({ steps: 1, drafted: 6, accepted: 6 });
});

it('a text that repeats itself takes fewer steps', async () => {
  const { tokens } = await model.generate(prompt, { maxTokens: 30 }).result();
  // the answer stands in the prompt already
  const repeating = [...prompt, ...tokens, ...prompt];
  const oracle = drafter((text, most) => {
    const made = text.length - prompt.length;
    return tokens.slice(made, made + most);
  });
  const { speculation } = await model.generate(prompt, { maxTokens: 30, speculation: oracle }).result();
  expect(speculation).toEqual({ steps: 5, drafted: 24, accepted: 24 });
  const run = { maxTokens: 30, speculation: drafters.ngram() };
  const { speculation: found } = await model.generate(repeating, run).result();
  expect(found?.drafted).toBeGreaterThan(0);
});

it('ngram guesses what followed the latest of the longest matches', () => {
  const propose = (text: number[], most = 3) =>
    drafters
      .ngram({ longest: 3, shortest: 2 })
      .start(null as never)
      .propose({ tokens: text, most, sampling: null as never });
  expect(propose([1, 2, 3, 4, 9, 2, 3, 5, 6, 2, 3])).toEqual([5, 6, 2]);
  expect(propose([1, 2, 3, 4, 9, 2, 3, 5, 6, 1, 2, 3])).toEqual([4, 9, 2]);
  expect(propose([5, 5, 5, 5])).toEqual([5]);
  expect(propose([1, 2, 3, 1])).toEqual([]);
  expect(propose([1])).toEqual([]);
  expect(propose([1, 2, 7, 1, 2], 1)).toEqual([7]);
});

it('a draft model sits out where its context or cache is too small', async () => {
  const tiny = await loadLanguageModel(join(folder, 'small'), { contextLength: 64, cacheTokens: 32 });
  const run = { maxTokens: 60 };
  const want = await model.generate(prompt.slice(0, 20), run).result();
  const got = await model
    .generate(prompt.slice(0, 20), { ...run, speculation: drafters.model(tiny) })
    .result();
  expect(got.tokens).toEqual(want.tokens);
  expect(got.speculation?.drafted).toBeGreaterThan(0);
  expect(tiny.engine.cache.freeBlocks).toBe(1);
  await tiny.dispose();
});

it('many at once, beside plain ones, in a small cache, some ended early', async () => {
  const small = await loadLanguageModel(join(folder, 'large'), { contextLength: CONTEXT, cacheTokens: 320 });
  const jobs = Array.from({ length: 24 }, (_, i) => ({
    text: prompt.slice(0, 3 + i),
    options: { maxTokens: 20 + i, ...(i % 2 ? { temperature: 1, seed: i } : {}) },
    speculation: [
      undefined,
      drafters.ngram(),
      drafters.model(other),
      drafters.ngram({ longest: 1, shortest: 1 }),
    ][i % 4],
  }));
  const got = await Promise.all(
    jobs.map(async ({ text, options, speculation }, i) => {
      const tokens: number[] = [];
      const all = speculation ? { ...options, speculation } : options;
      for await (const part of small.generate(text, all))
        if (tokens.push(part.token) === 5 && i % 6 === 5) break;
      return tokens;
    }),
  );
  expect(small.scheduler.statistics.preemptions).toBeGreaterThan(0);
  for (const [i, { text, options }] of jobs.entries()) {
    const { tokens } = await model.generate(text, options).result();
    expect(got[i]).toEqual(i % 6 === 5 ? tokens.slice(0, 5) : tokens);
  }
  expect(small.engine.cache.freeBlocks).toBe(small.engine.cache.blocks);
  await small.dispose();
});

// Pearson's test of pairs of tokens, the second of which is drawn beside a guess (the likeliest one): p(t1) · p(t2 | t1).
it.each<[string, GenerateOptions, (row: readonly number[]) => number[]]>([
  ['the model', { topK: 4 }, (row) => [...row.keys()].sort(falling(row)).slice(0, 4)],
  ['the model within a grammar', { regex: '[aeio]{4}', stopTokens: [10] }, () => [...Buffer.from('aeio')]],
])('sampled pairs have the law of %s', { timeout: 60_000 }, async (_, options, kept) => {
  const [temperature, draws] = [1.5, 12_000];
  const lawBehind = async (text: number[]): Promise<Map<number, number>> => {
    const { logits } = await model.forward({ inputIds: [text] });
    const row = Array.from(((await logits.data()) as Float32Array).slice(-model.config.vocabSize));
    const best = kept(row).sort(falling(row));
    const weights = best.map((id) => Math.exp((row[id] as number) / temperature));
    const sum = weights.reduce((a, b) => a + b);
    return new Map(best.map((id, i) => [id, (weights[i] as number) / sum]));
  };
  const first = await lawBehind(prompt);
  const laws = new Map<number, Map<number, number>>();
  for (const id of first.keys()) laws.set(id, await lawBehind([...prompt, id]));
  const speculation = drafter(
    (text) => [[...(laws.get(text.at(-1) as number) as Map<number, number>)][0]?.[0] as number],
    1,
  );
  const counts = new Map<string, number>();
  for (let seed = 0; seed < draws; seed += 500) {
    const many = { n: 500, seed, maxTokens: 3, temperature, speculation, ...options };
    for (const { tokens } of await model.generateMany(prompt, many)) {
      const pair = tokens.slice(0, 2).join();
      counts.set(pair, (counts.get(pair) ?? 0) + 1);
    }
  }
  let chi = 0;
  for (const [a, p] of first)
    for (const [b, q] of laws.get(a) as Map<number, number>) {
      const expected = draws * p * q;
      chi += ((counts.get(`${a},${b}`) ?? 0) - expected) ** 2 / expected;
      counts.delete(`${a},${b}`);
    }
  expect(counts.size).toBe(0);
  // 15 degrees of freedom: 0.1 % lie above
  expect(chi).toBeLessThan(37.7);
});

const falling =
  (row: readonly number[]) =>
  (a: number, b: number): number =>
    (row[b] as number) - (row[a] as number);

describe('is refused', () => {
  it.each<[string, () => GenerateOptions, RegExp]>([
    ['with beams', () => ({ speculation: drafters.ngram(), beams: 2 }), /beams together with speculation/],
    ['a word', () => ({ speculation: 'ngram' as never }), /got ngram, expected a drafter/],
    ['too many guesses', () => ({ speculation: drafters.ngram({ tokens: 17 }) }), /tokens 17/],
    ['no guesses', () => ({ speculation: drafters.model(other, { tokens: 0 }) }), /tokens 0/],
    ['an odd range', () => ({ speculation: drafters.ngram({ longest: 1, shortest: 2 }) }), /longest 1/],
    ['a misspelt option', () => ({ speculation: drafters.ngram({ length: 2 } as never) }), /'length'/],
  ])('%s', async (_, options, message) => {
    const run = async () => model.generate(prompt, options()).result();
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(message),
    });
  });

  it('a draft model with other tokens', async () => {
    const strange = {
      config: other.config,
      scheduler: other.scheduler,
      tokenizer: { idToToken: (id: number) => `<${id}>` } as never,
    };
    const run = model.generate(prompt, { maxTokens: 4, speculation: drafters.model(strange) }).result();
    await expect(run).rejects.toThrow(/token '<0>' for id 0/);
  });
});
