/** 100,000 draws of each sampler against the distribution that it leaves. */
import { expect, it } from 'vitest';
import { type Sampler, samplers } from '../../../src/generate/samplers/index.js';
import { runChains } from '../../helpers/chains.js';
import { generator } from '../../helpers/random.js';
import { probabilities } from '../../helpers/reference-samplers.js';

const DRAWS = 100_000;
const V = 24;
const next = generator(5);
const logits = Array.from({ length: V }, () => 4 * next() - 2);
const history = [3, 7, 1, 7, 1, 9, 3, 7];

/** How far a chi-square value lies above its mean, in standard deviations of a normal (Wilson and Hilferty 1931). */
function chiSquareSigmas(counts: readonly number[], expected: readonly number[]): number {
  let chi = 0;
  let freedom = -1;
  let smallCount = 0;
  let smallExpected = 0;
  for (const [i, e] of expected.entries()) {
    if (e === 0) {
      expect(counts[i], `token ${i} was removed`).toBe(0);
    } else if (e < 5) {
      smallCount += counts[i] as number;
      smallExpected += e;
    } else {
      chi += ((counts[i] as number) - e) ** 2 / e;
      freedom++;
    }
  }
  if (smallExpected > 0) {
    chi += (smallCount - smallExpected) ** 2 / smallExpected;
    freedom++;
  }
  if (freedom < 1) return 0;
  const c = 2 / (9 * freedom);
  return ((chi / freedom) ** (1 / 3) - (1 - c)) / Math.sqrt(c);
}

const cases: Readonly<Record<string, Sampler>> = {
  'nothing at all': samplers.chain([]),
  greedy: samplers.greedy(),
  temperature: samplers.temperature(0.6),
  'a high temperature': samplers.temperature(3),
  topK: samplers.topK(7),
  topP: samplers.topP(0.8),
  minP: samplers.minP(0.2),
  typical: samplers.typical(0.7),
  tailFree: samplers.tailFree(0.6),
  epsilon: samplers.epsilon(0.03),
  eta: samplers.eta(0.4),
  mirostat: samplers.mirostat({ tau: 2 }),
  xtc: samplers.xtc({ threshold: 0.05, probability: 0.4 }),
  repetitionPenalty: samplers.repetitionPenalty(1.8),
  frequencyPenalty: samplers.frequencyPenalty(0.7, { prompt: true }),
  presencePenalty: samplers.presencePenalty(1.2, { prompt: true }),
  dry: samplers.dry({ allowedLength: 1 }),
  noRepeatNgram: samplers.noRepeatNgram(2),
  logitBias: samplers.logitBias({ 2: 2, 3: Number.NEGATIVE_INFINITY }),
  suppressTokens: samplers.suppressTokens([0, 5]),
  badWords: samplers.badWords([[4], [3, 7, 8]]),
  sequenceBias: samplers.sequenceBias([[[7, 11], 1.5]]),
  forcedTokens: samplers.forcedTokens({ 0: 6 }),
  'top-k, top-p, temperature': samplers.chain([
    samplers.topK(12),
    samplers.topP(0.9),
    samplers.temperature(2),
  ]),
  'the short options': samplers.sample({
    temperature: 1.3,
    topK: 15,
    topP: 0.95,
    minP: 0.02,
    repetitionPenalty: 1.2,
  }),
};

it.each(Object.entries(cases))('%s', async (name, sampler) => {
  // Two ways to walk the random numbers: a seed for each draw, and the steps of one seed.
  const rows = Array.from({ length: DRAWS }, (_, i) => ({
    sampler,
    logits,
    history,
    ...(i % 2 === 0 ? { seed: i, step: 3 } : { seed: 17, step: i }),
  }));
  const { tokens, scores, chosen } = await runChains(rows);
  const counts = new Array<number>(V).fill(0);
  const expected = new Array<number>(V).fill(0);
  const left = (r: number): number[] => Array.from(scores.subarray(r * V, (r + 1) * V));
  // Rows differ only where a coin of their own is tossed.
  const distributions = [probabilities(left(0))];
  for (const [r, token] of tokens.entries()) {
    if (name === 'xtc') distributions[0] = probabilities(left(r));
    else if (r % 997 === 0) expect(left(r)).toEqual(left(0));
    const p = distributions[0] as number[];
    counts[token] = (counts[token] as number) + 1;
    for (let i = 0; i < V; i++) expected[i] = (expected[i] as number) + (p[i] as number);
    if (r % 997 === 0) expect(chosen[r]).toBeCloseTo(Math.log(p[token] as number), 5);
  }
  expect(chiSquareSigmas(counts, expected)).toBeLessThan(4);
});

it('the coin of xtc falls as often as asked, and not with the draws', async () => {
  const sampler = samplers.xtc({ threshold: 0.05, probability: 0.3 });
  const rows = Array.from({ length: 20_000 }, (_, i) => ({ sampler, logits, seed: i }));
  const { scores } = await runChains(rows);
  let fallen = 0;
  for (let r = 0; r < rows.length; r++) if (scores.subarray(r * V, (r + 1) * V).includes(-Infinity)) fallen++;
  expect(Math.abs(fallen / rows.length - 0.3)).toBeLessThan(0.015);
});

it('the test notices a wrong distribution', async () => {
  const sampler = samplers.temperature(1.05);
  const rows = Array.from({ length: DRAWS }, (_, i) => ({ sampler, logits, seed: i }));
  const { tokens } = await runChains(rows);
  const counts = new Array<number>(V).fill(0);
  for (const token of tokens) counts[token] = (counts[token] as number) + 1;
  const expected = probabilities(logits).map((p) => p * DRAWS);
  expect(chiSquareSigmas(counts, expected)).toBeGreaterThan(4);
});
