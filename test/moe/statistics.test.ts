import { describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../src/core/errors.js';
import {
  loadStatistics,
  routerConfidence,
  specialisation,
  statisticsOfLoad,
} from '../../src/moe/statistics.js';

/** The error that `run` throws, as its code and message. */
function refusal(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(SwitchyardError);
    return `${(error as SwitchyardError).code} ${(error as SwitchyardError).message}`;
  }
  return 'nothing thrown';
}

describe('loadStatistics', () => {
  // 4 tokens, 2 experts
  const cases = [
    { what: 'even', ids: [0, 1, 0, 1], load: [2, 2], entropy: 1, cv: 0, maxViolation: 0, dropped: 0 },
    { what: 'all to one', ids: [1, 1, 1, 1], load: [0, 4], entropy: 0, cv: 1, maxViolation: 1, dropped: 0 },
    {
      what: 'three to one',
      ids: [0, 0, 1, 0],
      load: [3, 1],
      entropy: 0.811278124459, // -¾ log2 ¾ - ¼ log2 ¼
      cv: 0.5,
      maxViolation: 0.5,
      dropped: 0,
    },
    {
      what: 'one dropped',
      ids: [0, -1, 1, -1],
      load: [1, 1],
      entropy: 1,
      cv: 0,
      maxViolation: 0,
      dropped: 0.5,
    },
    { what: 'all dropped', ids: [-1, -1], load: [0, 0], entropy: 0, cv: 0, maxViolation: 0, dropped: 1 },
    { what: 'no tokens', ids: [], load: [0, 0], entropy: 0, cv: 0, maxViolation: 0, dropped: 0 },
    {
      what: 'top-2',
      ids: [0, 1, 1, 0, 0, 1, 1, -1],
      load: [3, 4],
      entropy: 0.985228136034,
      cv: 1 / 7,
      maxViolation: 1 / 7,
      dropped: 1 / 8,
    },
  ];

  it.each(cases)('$what', ({ ids, load, entropy, cv, maxViolation, dropped }) => {
    for (const given of [ids, Int32Array.from(ids)]) {
      const got = loadStatistics(given, 2);
      expect(got.tokensPerExpert).toEqual(load);
      expect(got.entropy).toBeCloseTo(entropy, 11);
      expect(got.cv).toBeCloseTo(cv, 12);
      expect(got.maxViolation).toBeCloseTo(maxViolation, 12);
      expect(got.dropped).toBeCloseTo(dropped, 12);
    }
  });

  it('one expert is neither uneven nor uncertain', () => {
    expect(loadStatistics([0, 0, 0], 1)).toEqual({
      tokensPerExpert: [3],
      entropy: 0,
      cv: 0,
      maxViolation: 0,
      dropped: 0,
    });
  });

  it('seven experts, one of them busy', () => {
    const got = loadStatistics([2, 2, 2, 2, 2, 2, 2], 7);
    expect(got.tokensPerExpert).toEqual([0, 0, 7, 0, 0, 0, 0]);
    expect(got.maxViolation).toBeCloseTo(6, 12);
    expect(got.cv).toBeCloseTo(Math.sqrt(6), 12);
  });

  it.each([2, -2, 7, 0.5, Number.NaN])('refuses expert %f of 2', (e) => {
    expect(refusal(() => loadStatistics([0, e], 2))).toBe(
      `ERR_OPTION [loadStatistics] got expert ${e}, expected -1 to 1`,
    );
  });
});

describe('statisticsOfLoad', () => {
  it('of counts is the same as of ids', () => {
    expect(statisticsOfLoad([3, 1], 4)).toEqual(loadStatistics([0, 0, 1, 0, -1, -1, -1, -1], 2));
    expect(statisticsOfLoad([2, 2]).dropped).toBe(0);
  });

  it('no experts', () => {
    expect(statisticsOfLoad([])).toEqual({
      tokensPerExpert: [],
      entropy: 0,
      cv: 0,
      maxViolation: 0,
      dropped: 0,
    });
  });
});

describe('routerConfidence', () => {
  it('a sure and an undecided token', () => {
    const { meanTop, meanEntropy } = routerConfidence([1, 0, 0.5, 0.5], 2);
    expect(meanTop).toBe(0.75);
    expect(meanEntropy).toBe(0.5);
  });

  it('4 tokens, 2 experts', () => {
    const p = [0.75, 0.25, 0.25, 0.75, 1, 0, 0, 1];
    const { meanTop, meanEntropy } = routerConfidence(Float32Array.from(p), 2);
    expect(meanTop).toBe(0.875);
    expect(meanEntropy).toBeCloseTo(0.811278124459 / 2, 11);
  });

  it('one expert', () => expect(routerConfidence([1, 1, 1], 1)).toEqual({ meanTop: 1, meanEntropy: 0 }));
  it('no tokens', () => expect(routerConfidence([], 3)).toEqual({ meanTop: 0, meanEntropy: 0 }));

  it('refuses half a row, and no experts', () => {
    expect(refusal(() => routerConfidence([1, 0, 1], 2))).toBe(
      'ERR_SHAPE [routerConfidence] got 3 probabilities, expected a multiple of 2 experts',
    );
    expect(refusal(() => routerConfidence([], 0))).toContain('ERR_SHAPE [routerConfidence]');
  });
});

describe('specialisation', () => {
  it('the kind decides the expert', () => {
    const got = specialisation([0, 0, 1, 1], ['noun', 'noun', 'verb', 'verb'], 2);
    expect(got).toEqual({
      kinds: ['noun', 'verb'],
      counts: [
        [2, 0],
        [0, 2],
      ],
      entropyPerExpert: [0, 0],
      normalizedMutualInformation: 1,
    });
  });

  it('experts blind to the kind', () => {
    const got = specialisation([0, 1, 0, 1], ['verb', 'verb', 'noun', 'noun'], 2);
    expect(got.kinds).toEqual(['noun', 'verb']);
    expect(got.counts).toEqual([
      [1, 1],
      [1, 1],
    ]);
    expect(got.entropyPerExpert).toEqual([1, 1]);
    expect(got.normalizedMutualInformation).toBeCloseTo(0, 12);
  });

  it('one token of four goes astray', () => {
    const got = specialisation([0, 0, 0, 1], ['a', 'a', 'b', 'b'], 2);
    expect(got.counts).toEqual([
      [2, 0],
      [1, 1],
    ]);
    // H(kind) 1, H(expert) 0.811278…, H(both) 1.5; the smaller entropy is the expert's
    expect(got.normalizedMutualInformation).toBeCloseTo(0.311278124459 / 0.811278124459, 11);
    expect(got.entropyPerExpert[0]).toBeCloseTo(0.918295834054, 11);
    expect(got.entropyPerExpert[1]).toBe(0);
  });

  it('top-2: each choice of a token counts under its kind, a dropped one does not', () => {
    const got = specialisation(Int32Array.of(0, 1, 2, -1, 0, 2), ['b', 'a', 'b'], 3);
    expect(got.kinds).toEqual(['a', 'b']);
    expect(got.counts).toEqual([
      [0, 0, 1],
      [2, 1, 1],
    ]);
    expect(got.entropyPerExpert).toEqual([0, 0, 1]);
  });

  it.each([
    { what: 'one kind', ids: [0, 1, 0], kinds: ['x', 'x', 'x'], experts: 2, counts: [[2, 1]] },
    { what: 'one expert', ids: [0, 0], kinds: ['x', 'y'], experts: 1, counts: [[1], [1]] },
    {
      what: 'all dropped',
      ids: [-1, -1],
      kinds: ['x', 'y'],
      experts: 2,
      counts: [
        [0, 0],
        [0, 0],
      ],
    },
    { what: 'no tokens', ids: [], kinds: [], experts: 2, counts: [] },
  ])('$what tells nothing', ({ ids, kinds, experts, counts }) => {
    const got = specialisation(ids, kinds, experts);
    expect(got.counts).toEqual(counts);
    expect(got.normalizedMutualInformation).toBe(0);
    expect(got.entropyPerExpert).toHaveLength(experts);
  });

  it('refuses ids that do not fit the tokens, and experts that do not exist', () => {
    expect(refusal(() => specialisation([0, 1, 0], ['a', 'b'], 2))).toBe(
      'ERR_SHAPE [specialisation] got 3 expert ids for 2 tokens, expected a multiple',
    );
    expect(refusal(() => specialisation([0], [], 2))).toContain('ERR_SHAPE [specialisation]');
    expect(refusal(() => specialisation([2], ['a'], 2))).toBe(
      'ERR_OPTION [specialisation] got expert 2, expected -1 to 1',
    );
  });
});
