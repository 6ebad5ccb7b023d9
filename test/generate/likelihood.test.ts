/** Log-probabilities of texts, candidates and alternatives, against whole forward passes. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { perplexity } from '../../src/quantize/perplexity.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { TINY_VOCABULARY as V, writeTinyFolder } from '../helpers/tiny-model.js';

const path = join(temporaryFolder(), 'dense');
let model: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path, { eosId: null });
  model = await loadLanguageModel(path, { contextLength: 512, cacheTokens: 2048 });
});
afterAll(async () => {
  expect(model.engine.cache.freeBlocks).toBe(model.engine.cache.blocks);
  await model.dispose();
});

/** log P(· | tokens before) at each place, in float64. */
async function wholePass(tokens: readonly number[]): Promise<Float64Array[]> {
  const { logits } = await model.forward({ inputIds: [[...tokens]] });
  const data = (await logits.data()) as Float32Array;
  return tokens.map((_, t) => {
    const row = Float64Array.from(data.subarray(t * V, (t + 1) * V));
    const top = row.reduce((a, b) => Math.max(a, b), -Infinity);
    const norm = top + Math.log(row.reduce((sum, x) => sum + Math.exp(x - top), 0));
    return row.map((x) => x - norm);
  });
}
const falling = (row: Float64Array): number[] =>
  Array.from(row.keys()).sort((a, b) => (row[b] as number) - (row[a] as number) || a - b);

const text = [...Buffer.from('The gate decides what each token meets, and the experts answer. '.repeat(3))];

describe('a text', () => {
  it.each([2, 3, 64, 65, 66, text.length])('of %i tokens', async (length) => {
    const tokens = text.slice(0, length);
    const want = await wholePass(tokens);
    const got = await model.logprobs(tokens, { top: 3 });
    expect(got.map(({ token }) => token)).toEqual(tokens.slice(1));
    for (const [i, { token, logprob, rank, top }] of got.entries()) {
      const row = want[i] as Float64Array;
      expect(logprob).toBeCloseTo(row[token] as number, 4);
      expect(rank).toBe(1 + row.filter((x) => x > (row[token] as number)).length);
      expect(top.map((t) => t.token)).toEqual(falling(row).slice(0, 3));
      expect(top[0]?.logprob).toBeCloseTo(row[top[0]?.token as number] as number, 4);
    }
  });

  it('has the perplexity that quantize tells', async () => {
    const got = await model.logprobs(text);
    const { loss } = await perplexity(model, text);
    expect(-got.reduce((sum, { logprob }) => sum + logprob, 0) / got.length).toBeCloseTo(loss, 4);
  });
});

describe('candidates', () => {
  const prompt = text.slice(0, 70);
  const candidates = [[5], [9, 9, 1], text.slice(70, 140), [V - 1, 3]];

  it('are scored as whole texts are, their prompt computed once', async () => {
    const before = model.scheduler.statistics;
    const scores = await model.score(prompt, candidates, { top: 1 });
    const fed = model.scheduler.statistics.fedTokens - before.fedTokens;
    expect(fed).toBe(prompt.length - 1 + candidates.reduce((n, c) => n + c.length, 0));
    for (const [i, { tokens, logprob, meanLogprob, greedy }] of scores.entries()) {
      const candidate = candidates[i] as number[];
      const alone = (await model.logprobs([...prompt, ...candidate], { top: 1 })).slice(prompt.length - 1);
      expect(tokens).toEqual(alone);
      expect(logprob).toBeCloseTo(
        alone.reduce((sum, t) => sum + t.logprob, 0),
        10,
      );
      expect(meanLogprob).toBeCloseTo(logprob / candidate.length, 10);
      expect(greedy).toBe(alone.every(({ rank }) => rank === 1));
    }
  });

  it('of greedy decoding are greedy', async () => {
    const { tokens } = await model.generate(prompt, { maxTokens: 5 }).result();
    const [same, other] = await model.score(prompt, [
      tokens,
      [...tokens.slice(0, 4), (tokens[4] as number) ^ 1],
    ]);
    expect([same?.greedy, other?.greedy]).toEqual([true, false]);
  });

  it('may be texts', async () => {
    const scores = await model.score('The gate', [' decides', ' waits', 's']);
    expect(scores.map(({ tokens }) => tokens.length)).toEqual([8, 6, 1]);
  });

  it.each([
    ['no candidates', [1, 2], [], /no candidates/],
    ['an empty candidate', [1], [[]], /1 tokens/],
    ['an id outside the vocabulary', [1], [[V]], new RegExp(`token id ${V}`)],
    ['a text behind ids', [1], ['a'], /one kind/],
    ['more than the context', [1], [Array.from({ length: 600 }, () => 1)], /601 tokens/],
  ] as const)('are refused: %s', async (_, ids, given, message) => {
    await expect(model.score([...ids], given as never)).rejects.toThrow(message);
  });

  it('are given up when a signal says so', async () => {
    await expect(model.score(prompt, candidates, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    });
  });
});

describe('alternatives of a generation', () => {
  const prompt = text.slice(0, 20);
  it.each([
    ['greedy', {}],
    ['sampled', { temperature: 1, seed: 4 }],
    [
      'through a hook',
      { temperature: 1, seed: 4, logitsHook: (scores: Float32Array) => void scores.fill(-Infinity, 7, 8) },
    ],
  ])('%s', async (_, options) => {
    const parts = [];
    const generation = model.generate(prompt, { maxTokens: 6, topLogprobs: 5, ...options });
    for await (const part of generation) parts.push(part);
    const { tokens, alternatives, logprobs } = await generation.result();
    const want = (await model.logprobs([...prompt, ...tokens], { top: 5 })).slice(prompt.length - 1);
    expect(alternatives).toEqual(want.map(({ rank, top }) => ({ rank, top })));
    expect(parts.map(({ rank, top }) => ({ rank, top }))).toEqual(alternatives);
    expect(logprobs).toEqual(want.map(({ logprob }) => logprob));
  });

  it('are absent unless asked for, and may be none', async () => {
    expect(await model.generate(prompt, { maxTokens: 2 }).result()).not.toHaveProperty('alternatives');
    const { alternatives } = await model.generate(prompt, { maxTokens: 2, topLogprobs: 0 }).result();
    expect(alternatives).toEqual([
      { rank: 1, top: [] },
      { rank: 1, top: [] },
    ]);
  });

  it('are refused beyond the vocabulary', async () => {
    for (const options of [{ topLogprobs: V + 1 }, { topLogprobs: -1 }])
      expect(() => model.generate(prompt, options)).toThrow(/topLogprobs/);
  });
});
