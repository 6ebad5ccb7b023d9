import { describe, expect, it } from 'vitest';
import { barsOf, chartSvg, OURS } from '../../bench/harness/chart.js';
import { type Measured, makeFigure } from '../../bench/harness/figure.js';
import { chartsOf, reportFiles } from '../../bench/harness/report-page.js';

const figure = (measured: Partial<Measured>) =>
  makeFigure(
    { case: 'decode', threads: 2, tier: 'avx2', machine: 'a machine' },
    { metric: 'decode', unit: 'tokens/s', values: [50, 60, 70], ...measured },
  );
const peers = [
  { name: 'slow', values: [20] },
  { name: 'fast', values: [90] },
];
const limited = figure({ shape: 'A, 1 token', limit: 100, peers });
const goal = figure({ metric: 'stall', unit: 'ms', limit: 5, goal: true });

describe('bars', () => {
  it('are ours and the peers, as shares of the limit', () => {
    expect(barsOf([limited])).toEqual([
      { group: 'A, 1 token', who: OURS, drawn: 0.6, label: '60 % · 60.00 tokens/s' },
      { group: 'A, 1 token', who: 'fast', drawn: 0.9, label: '90 % · 90.00 tokens/s' },
      { group: 'A, 1 token', who: 'slow', drawn: 0.2, label: '20 % · 20.00 tokens/s' },
    ]);
  });

  it('are longer for shorter times, and end where the chart does', () => {
    const times = [
      figure({ unit: 'ms', values: [20], limit: 10 }),
      figure({ unit: 'ms', values: [1], limit: 10 }),
    ];
    expect(barsOf(times).map((b) => b.drawn)).toEqual([0.5, 1.2]);
    expect(barsOf(times)[1]?.label).toBe('1000 % · 1.000 ms');
  });

  it('are told apart by what differs between figures', () => {
    const groups = (...given: Partial<Measured>[]): (string | undefined)[] =>
      barsOf(given.map((g) => figure({ limit: 1, ...g }))).map((b) => b.group);
    expect(groups({ shape: 's', format: 'f32' })).toEqual(['s']);
    expect(groups({ shape: 's', format: 'f32' }, { shape: 's', format: 'bf16' })).toEqual([
      's, f32',
      's, bf16',
    ]);
    expect(groups({ threads: 1 }, { threads: 2 })).toEqual(['decode, 1 thread', 'decode, 2 threads']);
  });
});

it('draws each bar and its label in both themes', async () => {
  for (const theme of ['light', 'dark'] as const) {
    const svg = await chartSvg('decode', [limited], theme);
    expect(svg).toMatch(/^<svg/);
    for (const text of ['60 % · 60.00 tokens/s', 'slow', 'fast', OURS, 'a machine'])
      expect(svg).toContain(text);
  }
  expect(await chartSvg('decode', [limited], 'dark')).not.toContain('#ffffff');
});

describe('charts of a case', () => {
  it('leave out goals and figures without a limit', () => {
    expect(chartsOf('c', [goal, figure({})])).toEqual([]);
    expect(chartsOf('c', [limited, goal])).toEqual([{ title: 'c', figures: [limited] }]);
  });

  it('are one for each subject where one would be long', () => {
    const of = (subject: string, n: number) =>
      Array.from({ length: n }, (_, i) => figure({ shape: `${subject}, ${i} tokens`, limit: 1 }));
    const charts = chartsOf('moe', [...of('A', 13), ...of('B', 12)]);
    expect(charts.map((c) => [c.title, c.figures.length])).toEqual([
      ['moe, A', 13],
      ['moe, B', 12],
    ]);
  });
});

describe('the report', () => {
  it('has a page that links every chart it comes with', async () => {
    const sections = [
      { name: 'decode', about: 'tokens per second', figures: [limited] },
      { name: 'stall', about: 'stalls', figures: [goal] },
      { name: 'failed', about: 'nothing came', figures: [] },
    ];
    const files = await reportFiles(sections);
    expect(files.map(([name]) => name)).toEqual(['report.md', 'decode-light.svg', 'decode-dark.svg']);
    const page = files[0]?.[1] as string;
    expect(page).toContain('a machine');
    expect(page).toContain('srcset="decode-dark.svg"');
    expect(page).toContain('src="decode-light.svg"');
    expect(page).not.toContain('failed');
    expect(page).toContain('fast 90.00 (90.00 … 90.00)<br>slow 20.00 (20.00 … 20.00) | 0.67<br>3.00 |');
    expect(page).toContain('goal 5.000');
  });

  it('keeps its table whole whatever a figure is called', async () => {
    const [[, page]] = (await reportFiles([
      { name: 'c', about: 'a', figures: [figure({ shape: 'a | b' })] },
    ])) as [[string, string]];
    const rows = page.split('\n').filter((line) => line.startsWith('|'));
    const cells = rows.map((row) => row.split(/(?<!\\)\|/).length);
    expect(new Set(cells).size).toBe(1);
  });
});
