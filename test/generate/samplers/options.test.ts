/** What samplers and options refuse, and what state of a text they keep. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../../src/core/errors.js';
import { type Sampler, samplers } from '../../../src/generate/samplers/index.js';
import { samplerOf } from '../../../src/generate/samplers/options.js';
import { Sampling } from '../../../src/generate/steps/sampling.js';
import { type ChainRow, runChains, sampled } from '../../helpers/chains.js';

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
/** Each value must be refused. */
const BAD: Readonly<Record<string, readonly unknown[]>> = {
  temperature: [-1, 101, nan, inf, '1', null],
  topK: [-1, 0.5, nan, 2 ** 25, '3'],
  topP: [-0.1, 1.1, nan, '0.5'],
  minP: [-0.1, 1.1, nan],
  typical: [0, -1, 1.1, nan],
  tailFree: [-0.1, 1.1, nan],
  epsilon: [-0.1, 1, nan],
  eta: [-0.1, 1, nan],
  mirostat: [{ tau: 0 }, { tau: nan }, { eta: 0 }, { eta: 2 }, { tao: 3 }, 5],
  xtc: [{ threshold: 0 }, { threshold: 1.1 }, { probability: -1 }, { probability: 2 }, { chance: 1 }],
  repetitionPenalty: [0, -1, 101, nan, '1.1'],
  frequencyPenalty: [101, -101, nan, '1'],
  presencePenalty: [101, -101, nan],
  dry: [
    { multiplier: -1 },
    { base: 0.5 },
    { allowedLength: 0 },
    { breakers: 'x' },
    { breakers: [''] },
    { window: -1 },
  ],
  noRepeatNgram: [-1, 0.5, nan],
  logitBias: [[1], 5, null, { a: 1 }, { 1: nan }, { 1: inf }, { '-1': 2 }, { 1: '2' }],
  suppressTokens: [5, [-1], [0.5], ['a']],
  badWords: [5, [[]], [''], [[-1]], [[0.5]]],
  sequenceBias: [5, [[1]], [[[1], nan]], [[[], 1]]],
  minLength: [-1, 0.5, nan],
  maxLength: [0, 0.5],
  forcedTokens: [5, null, [1], { a: 1 }, { 0: -1 }, { 0: 0.5 }],
  logitsHook: [5, null, {}],
};

describe('each sampler refuses', () => {
  it('and no sampler is left out', () => {
    const made = ['chain', 'sample', 'greedy'];
    expect([...Object.keys(BAD), ...made].sort()).toEqual(Object.keys(samplers).sort());
  });
  const cases = Object.entries(BAD).flatMap(([name, values]) =>
    values.map((value) => [name, value] as const),
  );
  it.each(cases)('%s(%o)', (name, value) => {
    const make = samplers[name as 'topK'] as (value: unknown) => Sampler;
    expect(() => make(value)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }));
  });
  it.each([[5], [[5]], ['topK'], [[samplers.topK]]])('chain(%o)', (parts) => {
    expect(() => samplers.chain(parts as never)).toThrow(SwitchyardError);
  });
  it('unknown options, with the likely name', () => {
    expect(() => samplers.sample({ top_k: 3 } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', hint: "did you mean 'topK'?" }),
    );
    expect(() => samplers.chain([], { sed: 1 } as never)).toThrow(/sed/);
    expect(() => samplers.repetitionPenalty(1.1, { prompts: true } as never)).toThrow(/prompts/);
    expect(() => samplers.repetitionPenalty(1.1, { prompt: 1 } as never)).toThrow(/prompt 1/);
  });
  it.each([-1, 0.5, 2 ** 32, nan, '1'])('the seed %o', (seed) => {
    expect(() => samplers.sample({ seed: seed as number })).toThrow(/seed/);
  });
  const context = { endIds: new Set<number>(), vocabSize: 10 };
  it.each([
    ['logitBias', samplers.logitBias({ 10: 1 })],
    ['suppressTokens', samplers.suppressTokens([3, 10])],
    ['badWords', samplers.badWords([[1, 10]])],
    ['badWords without a tokenizer', samplers.badWords(['word'])],
    ['forcedTokens', samplers.forcedTokens({ 5: 10 })],
    ['dry', samplers.dry({ breakers: [10] })],
    ['dry without a tokenizer', samplers.dry({ breakers: ['x'] })],
    ['maxLength without an end', samplers.maxLength(3)],
  ])('tokens that the vocabulary does not have: %s', (_, sampler) => {
    expect(() => new Sampling(sampler, [], { context })).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    );
  });
});

const logits = [1, 2.5, -1, 0.5, 2, -3, 0, 1.5];
const kept = async (row: ChainRow, context?: Parameters<typeof runChains>[1]): Promise<number[]> => {
  const { scores } = await runChains([row], context);
  return [...scores.keys()].filter((i) => (scores[i] as number) > -Infinity);
};

describe('off values do nothing', () => {
  it.each(
    Object.entries({
      topK: samplers.topK(0),
      topP: samplers.topP(1),
      minP: samplers.minP(0),
      typical: samplers.typical(1),
      tailFree: samplers.tailFree(1),
      epsilon: samplers.epsilon(0),
      eta: samplers.eta(0),
      temperature: samplers.temperature(1),
      repetitionPenalty: samplers.repetitionPenalty(1),
      frequencyPenalty: samplers.frequencyPenalty(0),
      dry: samplers.dry({ multiplier: 0 }),
      noRepeatNgram: samplers.noRepeatNgram(0),
      xtc: samplers.xtc({ probability: 0 }),
      minLength: samplers.minLength(0),
    }),
  )('%s', async (_, sampler) => {
    const { scores } = await runChains([{ sampler, logits, history: [1, 4, 1, 4] }]);
    expect([...scores]).toEqual(logits);
  });
});

it('the order of a chain counts', async () => {
  const hot = samplers.temperature(3);
  const first = await kept({ sampler: samplers.chain([hot, samplers.topP(0.6)]), logits });
  const last = await kept({ sampler: samplers.chain([samplers.topP(0.6), hot]), logits });
  expect(first.length).toBeGreaterThan(last.length);
});

describe('the short options', () => {
  const names = (options: Parameters<typeof samplerOf>[0]): string[] =>
    samplerOf(options).processors.map((p) => p.name);
  it('are applied in one order, however they are written', () => {
    const options = {
      etaCutoff: 0.1,
      minP: 0.1,
      topK: 5,
      repetitionPenalty: 1.1,
      temperature: 0.5,
      topP: 0.9,
      typicalP: 0.9,
    };
    expect(names(options)).toEqual([
      'repetitionPenalty',
      'temperature',
      'topK',
      'topP',
      'minP',
      'typical',
      'eta',
    ]);
  });
  it('are greedy unless they draw', () => {
    expect(names({})).toEqual(['greedy']);
    expect(names({ repetitionPenalty: 1.1, seed: 3 })).toEqual(['repetitionPenalty', 'greedy']);
    expect(names({ temperature: 0, topK: 5 })).toEqual(['greedy']);
    expect(names({ minP: 0.1 })).toEqual(['temperature', 'minP']);
  });
});

describe('a text', () => {
  const context = { endIds: new Set([2, 5]), vocabSize: 8 };
  const allowed = async (sampling: Sampling): Promise<number[]> => {
    const { ChainBatch } = await import('../../../src/generate/samplers/chain-batch.js');
    const batch = new ChainBatch();
    sampling.write(batch);
    return [...batch.data];
  };

  it('may not end before minLength, and must at maxLength', async () => {
    const state = (made: number) => {
      const tokens = Array.from({ length: made }, () => ({ token: 1 }));
      return sampled(samplers.chain([samplers.minLength(2), samplers.maxLength(4)]), [7, 7], tokens, context);
    };
    const written = await Promise.all([0, 1, 2, 3].map((n) => allowed(state(n))));
    expect(written.map((w) => w.length > 0)).toEqual([true, true, false, true]);
  });

  it('of mirostat moves its cut by how surprising its tokens were', async () => {
    const plain = sampled(samplers.mirostat({ tau: 3, eta: 0.5 }), [], []);
    const after = sampled(samplers.mirostat({ tau: 3, eta: 0.5 }), [], [{ token: 1, chosen: -Math.LN2 * 5 }]);
    const mu = async (s: Sampling) =>
      new Float64Array(Int32Array.from((await allowed(s)).slice(-2)).buffer)[0];
    expect(await mu(plain)).toBe(6);
    expect(await mu(after)).toBeCloseTo(6 - 0.5 * (5 - 3), 10);
    expect(() => plain.take({ token: 1 })).toThrow(/probability/);
  });

  it('forks with its past and then goes its own way', async () => {
    const first = sampled(samplers.mirostat(), [3], [{ token: 1, chosen: -2 }]);
    const twin = first.fork();
    expect(await allowed(twin)).toEqual(await allowed(first));
    expect([...twin.history]).toEqual([3, 1]);
    twin.take({ token: 4, chosen: -9 });
    expect([...first.history]).toEqual([3, 1]);
    expect(await allowed(twin)).not.toEqual(await allowed(first));
    expect([twin.seed, twin.drawn]).toEqual([first.seed, 2]);
  });

  it('counts penalties from where they are told to', async () => {
    const place = (sampler: Sampler) => sampled(sampler, [1, 2, 3], [{ token: 4 }, { token: 5 }], context);
    const from = async (sampler: Sampler) => (await allowed(place(sampler))).at(-1);
    expect(await from(samplers.repetitionPenalty(2))).toBe(0);
    expect(await from(samplers.repetitionPenalty(2, { prompt: false }))).toBe(3);
    expect(await from(samplers.repetitionPenalty(2, { window: 1 }))).toBe(4);
    expect(await from(samplers.frequencyPenalty(2))).toBe(3);
    expect(await from(samplers.frequencyPenalty(2, { prompt: true, window: 4 }))).toBe(1);
  });
});

describe('for all chains', () => {
  const part = fc.oneof(
    fc.double({ min: 0.05, max: 5, noNaN: true }).map((t) => samplers.temperature(t)),
    fc.integer({ min: 1, max: 10 }).map((k) => samplers.topK(k)),
    fc.double({ min: 0, max: 1, noNaN: true }).map((p) => samplers.topP(p)),
    fc.double({ min: 0, max: 1, noNaN: true }).map((p) => samplers.minP(p)),
    fc.double({ min: 0.01, max: 1, noNaN: true }).map((p) => samplers.typical(p)),
    fc.double({ min: 0, max: 1, noNaN: true }).map((z) => samplers.tailFree(z)),
    fc.double({ min: 0, max: 0.9, noNaN: true }).map((e) => samplers.eta(e)),
    fc.double({ min: 0.5, max: 2, noNaN: true }).map((p) => samplers.repetitionPenalty(p)),
    fc.constant(samplers.frequencyPenalty(0.5, { prompt: true })),
    fc.constant(samplers.dry({ allowedLength: 1, breakers: [3] })),
    fc.constant(samplers.noRepeatNgram(3)),
    fc.constant(samplers.xtc({ threshold: 0.05 })),
    fc.constant(samplers.logitBias({ 1: 2, 2: -2 })),
  );
  const row = fc.record({
    sampler: fc.array(part, { maxLength: 5 }).map((parts) => samplers.chain(parts)),
    logits: fc.array(fc.double({ min: -20, max: 20, noNaN: true }), { minLength: 12, maxLength: 12 }),
    history: fc.array(fc.integer({ min: 0, max: 11 }), { maxLength: 12 }),
    seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    step: fc.integer({ min: 0, max: 1000 }),
  });

  it('a row of a batch is what it is alone, and draws what its scores allow', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 6 }), async (rows) => {
        const together = await runChains(rows);
        for (const [i, one] of rows.entries()) {
          const alone = await runChains([one]);
          const token = together.tokens[i] as number;
          const scores = together.scores.subarray(i * 12, (i + 1) * 12);
          expect([token, together.chosen[i], ...scores]).toEqual([
            alone.tokens[0],
            alone.chosen[0],
            ...alone.scores,
          ]);
          if (scores.every((s) => s === -Infinity)) expect(token).toBe(-1);
          else expect(scores[token]).toBeGreaterThan(-Infinity);
        }
      }),
      { seed: 11, numRuns: 60 },
    );
  });
});
