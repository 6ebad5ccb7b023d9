import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { summarize, timesBetter } from '../../bench/harness/statistics.js';

describe('summarize', () => {
  it.each([
    [[3], { median: 3, min: 3, max: 3, runs: 1 }],
    [[3, 1], { median: 2, min: 1, max: 3, runs: 2 }],
    [[9, 1, 5], { median: 5, min: 1, max: 9, runs: 3 }],
    [[4, 1, 100, 2], { median: 3, min: 1, max: 100, runs: 4 }],
    [[10, 9, 100], { median: 10, min: 9, max: 100, runs: 3 }], // by number, not by text
    [[-1.5e308, -1e308], { median: -1.25e308, min: -1.5e308, max: -1e308, runs: 2 }], // a sum beyond all numbers
  ])('of %j', (values, expected) => {
    expect(summarize(values)).toEqual(expected);
  });

  it.each([[[]], [[1, Number.NaN]], [[Number.POSITIVE_INFINITY]]])('refuses %j', (values) => {
    expect(() => summarize(values)).toThrow(/expected at least one finite number/);
  });

  it('does not depend on the order, and leaves the values alone', () => {
    fc.assert(
      fc.property(
        fc.array(fc.double({ noNaN: true, noDefaultInfinity: true }), { minLength: 1 }),
        (values) => {
          const before = [...values];
          const summary = summarize(values);
          expect(values).toEqual(before);
          expect(summarize([...values].reverse())).toEqual(summary);
          expect(values.filter((v) => v < summary.median).length).toBeLessThanOrEqual(values.length / 2);
          expect(values.filter((v) => v > summary.median).length).toBeLessThanOrEqual(values.length / 2);
        },
      ),
    );
  });
});

it.each([
  ['tokens/s', 200, 100, 2],
  ['GB/s', 5, 10, 0.5],
  ['ms', 5, 10, 2],
  ['%', 4, 5, 1.25],
  ['µs', 20, 10, 0.5],
  ['MiB', 100, 115, 1.15],
])('%s: %d is better than %d by %d', (unit, a, b, expected) => {
  expect(timesBetter(a, b, unit)).toBeCloseTo(expected, 12);
});
