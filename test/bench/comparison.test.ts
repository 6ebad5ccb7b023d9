import { describe, expect, it } from 'vitest';
import { compareFigures, comparisonTable } from '../../bench/harness/comparison.js';
import { type Measured, makeFigure } from '../../bench/harness/figure.js';

const figure = (values: number[], measured: Partial<Measured> = {}, machine = 'one') =>
  makeFigure(
    { case: 'c', threads: 2, tier: 'amx', machine },
    { metric: 'm', unit: 'GB/s', values, ...measured },
  );

describe('compareFigures', () => {
  it.each([
    ['faster', 'GB/s', [10, 11, 12], [20, 22, 24], { ratio: 2, least: 20 / 12, most: 2.4, clear: true }],
    [
      'slower',
      'GB/s',
      [20, 22, 24],
      [10, 11, 12],
      { ratio: 0.5, least: 10 / 24, most: 12 / 20, clear: true },
    ],
    ['shorter', 'ms', [20, 22, 24], [10, 11, 12], { ratio: 2, least: 20 / 12, most: 2.4, clear: true }],
    [
      'unclear',
      'GB/s',
      [10, 11, 14],
      [12, 13, 15],
      { ratio: 13 / 11, least: 12 / 14, most: 1.5, clear: false },
    ],
  ])('%s', (_, unit, before, after, expected) => {
    const { changes } = compareFigures([figure(before, { unit })], [figure(after, { unit })]);
    expect(changes).toHaveLength(1);
    const [change] = changes as [(typeof changes)[0]];
    expect(change.clear).toBe(expected.clear);
    for (const key of ['ratio', 'least', 'most'] as const) expect(change[key]).toBeCloseTo(expected[key], 5);
  });

  it('refuses figures of different machines, and names both', () => {
    expect(() => compareFigures([figure([1])], [figure([1], {}, 'two')])).toThrow(/'one' and 'two'/);
  });

  it('lists what only one side has', () => {
    const result = compareFigures([figure([1], { shape: 'old' })], [figure([1], { shape: 'new' })]);
    expect(result.changes).toEqual([]);
    expect(result.onlyBefore).toEqual([expect.stringContaining('old')]);
    expect(result.onlyAfter).toEqual([expect.stringContaining('new')]);
    expect(comparisonTable(result)).toMatch(/only before: .*old.*\nonly after: .*new/);
  });

  it('says in the table what is clear', () => {
    const rows = compareFigures(
      [figure([1], { shape: 'a' }), figure([1, 3], { shape: 'b' }), figure([5], { shape: 'c' })],
      [figure([2], { shape: 'a' }), figure([2, 4], { shape: 'b' }), figure([4], { shape: 'c' })],
    );
    const lines = comparisonTable(rows).split('\n');
    expect(lines.find((l) => l.includes('c, a,'))).toContain('better');
    expect(lines.find((l) => l.includes('c, b,'))).toContain('within the spread');
    expect(lines.find((l) => l.includes('c, c,'))).toContain('worse');
  });
});
