import { describe, expect, it } from 'vitest';
import {
  type Figure,
  figureKey,
  figureSchema,
  makeFigure,
  parseFigures,
} from '../../bench/harness/figure.js';
import { bar, figureTable } from '../../bench/harness/report.js';

const setting = { case: 'decode', threads: 2, tier: 'amx', machine: 'a machine' };
const plain = makeFigure(setting, { metric: 'decode', unit: 'tokens/s', values: [10, 30, 20] });

describe('figures', () => {
  it('has exactly the keys of the record, null where nothing was measured', () => {
    expect(plain).toEqual({
      case: 'decode',
      shape: '',
      format: '',
      threads: 2,
      tier: 'amx',
      metric: 'decode',
      unit: 'tokens/s',
      median: 20,
      min: 10,
      max: 30,
      runs: 3,
      limit: null,
      limitShare: null,
      goal: false,
      peers: [],
      machine: 'a machine',
    });
    expect(figureSchema.parse(plain)).toEqual(plain);
  });

  it.each([
    ['tokens/s', [50], 100, 0.5, [25], 2],
    ['ms', [4], 5, 1.25, [2], 0.5],
  ])(
    'gives shares and ratios in %s where more than 1 is better',
    (unit, values, limit, share, theirs, ratio) => {
      const figure = makeFigure(setting, {
        metric: 'm',
        unit,
        values,
        limit,
        peers: [{ name: 'p', values: theirs }],
      });
      expect(figure).toMatchObject({
        limit,
        limitShare: share,
        peers: [{ name: 'p', median: theirs[0], ratio }],
      });
    },
  );

  it.each([
    ['tokens/s', ['fast', 'middle', 'slow']],
    ['ms', ['slow', 'middle', 'fast']],
  ])('puts the best of several peers first, in %s', (unit, order) => {
    const peers = [
      { name: 'middle', values: [20, 20] },
      { name: 'slow', values: [10, 11, 9] },
      { name: 'fast', values: [30] },
    ];
    const figure = makeFigure(setting, { metric: 'm', unit, values: [15], peers });
    expect(figure.peers.map((p) => p.name)).toEqual(order);
    expect(figure.peers.find((p) => p.name === 'slow')).toMatchObject({ median: 10, min: 9, max: 11 });
    expect(figureSchema.parse(figure)).toEqual(figure);
  });

  it('lets a case overrule threads and tier', () => {
    const figure = makeFigure(setting, { metric: 'm', unit: 'GB/s', values: [1], threads: 1, tier: 'avx2' });
    expect(figure).toMatchObject({ threads: 1, tier: 'avx2' });
  });

  it('comes back from its line, past lines that are no JSON objects', () => {
    const text = `npm says hello\n${JSON.stringify(plain)}\n\n${JSON.stringify({ ...plain, shape: 'x' })}\n`;
    expect(parseFigures(text, 'file')).toEqual([plain, { ...plain, shape: 'x' }]);
  });

  it.each([
    ['a broken line', '{"case":', /file:1.*no JSON/],
    ['a missing key', JSON.stringify({ ...plain, machine: undefined }), /file:1.*machine/s],
    ['a further key', JSON.stringify({ ...plain, more: 1 }), /file:1.*more/s],
    ['a wrong type', JSON.stringify({ ...plain, median: '20' }), /file:1.*median/s],
  ])('refuses %s', (_, line, message) => {
    expect(() => parseFigures(line, 'file')).toThrow(message);
  });

  it('has a key that tells figures apart by all but their numbers', () => {
    const others: Partial<Figure>[] = [
      { shape: 'a' },
      { format: 'q4_0' },
      { threads: 1 },
      { tier: 'avx2' },
      { metric: 'x' },
      { case: 'y' },
    ];
    const keys = others.map((other) => figureKey({ ...plain, ...other }));
    expect(new Set([figureKey(plain), ...keys]).size).toBe(others.length + 1);
    expect(figureKey({ ...plain, median: 1, runs: 9 })).toBe(figureKey(plain));
  });
});

describe('the table', () => {
  it.each([
    [0, '            '],
    [0.5, '██████      '],
    [1, '████████████'],
    [3, '████████████'],
    [0.25 + 1 / 96, '███▏        '],
  ])('draws a share of %d', (share, expected) => {
    expect(bar(share)).toBe(expected);
  });

  it('shows peers only where some were measured, the best first', () => {
    const peers = [
      { name: 'slow', values: [20] },
      { name: 'fast', values: [5] },
    ];
    expect(figureTable([plain])).not.toContain('times better');
    const table = figureTable([plain, makeFigure(setting, { metric: 'm', unit: 'ms', values: [10], peers })]);
    expect(table).toContain('times better');
    const lines = table.split('\n');
    const at = lines.findIndex((line) => line.includes('fast 5'));
    expect(lines[at]).toContain('0.50');
    expect(lines[at + 1]).toContain('slow 20');
    expect(lines[at + 1]).toContain('2.00');
  });
});
