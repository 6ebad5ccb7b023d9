import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../src/core/errors.js';
import { type BucketOptions, distanceBucket, distanceBuckets } from '../../src/nn/relative-bias.js';

const PUBLISHED = { buckets: 32, maxDistance: 128 };
const both: BucketOptions = { ...PUBLISHED, bidirectional: true };
const back: BucketOptions = { ...PUBLISHED, bidirectional: false };

describe('buckets of distances', () => {
  // what the published models' code gives; edges of buckets fall on 16, 32 and 64 exactly
  it.each<[BucketOptions, Record<number, number>]>([
    [both, { 0: 0, [-1]: 1, [-7]: 7, [-8]: 8, [-16]: 10, [-32]: 12, [-64]: 14, [-127]: 15, [-999]: 15 }],
    [both, { 1: 17, 7: 23, 8: 24, 15: 25, 16: 26, 63: 29, 64: 30, 128: 31, 999: 31 }],
    [back, { 5: 0, 0: 0, [-1]: 1, [-15]: 15, [-16]: 16, [-32]: 21, [-64]: 26, [-128]: 31, [-500]: 31 }],
  ])('%j', (options, want) => {
    const got = Object.keys(want).map((distance) => [distance, distanceBucket(Number(distance), options)]);
    expect(Object.fromEntries(got)).toEqual(want);
  });

  it('never fall with the distance, use the range and end at the longest distance', () => {
    const options = fc.record({
      buckets: fc.integer({ min: 4, max: 64 }),
      maxDistance: fc.integer({ min: 33, max: 400 }),
      bidirectional: fc.boolean(),
    });
    fc.assert(
      fc.property(options, (o) => {
        const { buckets, left } = distanceBuckets(o);
        const half = o.bidirectional ? Math.floor(o.buckets / 2) : o.buckets;
        const before = Array.from({ length: left + 1 }, (_, away) => buckets[left - away] as number);
        for (let i = 1; i < before.length; i++) {
          const step = (before[i] as number) - (before[i - 1] as number);
          expect(step).toBeGreaterThanOrEqual(0);
        }
        expect([before[0], before.at(-1)]).toEqual([0, half - 1]);
        if (o.bidirectional)
          for (let away = 1; away <= left; away++)
            expect(buckets[left + away]).toBe((before[away] as number) + half);
        expect(distanceBucket(-left - 1, o)).toBe(buckets[0]);
        expect(distanceBucket(left + 1, o)).toBe(buckets.at(-1));
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  it.each([
    { buckets: 2, maxDistance: 128, bidirectional: true },
    { buckets: 1, maxDistance: 128, bidirectional: false },
    { buckets: 32, maxDistance: 8, bidirectional: true },
  ])('%j has too few', (options) => {
    expect(() => distanceBuckets(options)).toThrow(SwitchyardError);
  });
});
