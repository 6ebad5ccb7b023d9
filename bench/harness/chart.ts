/** A bar chart of one case: how much of the machine's limit we reach, and our peers. */
import { parse, View } from 'vega';
import { compile, type TopLevelSpec } from 'vega-lite';
import type { Figure } from './figure.js';
import { amount, percent, plural } from './report.js';
import { timesBetter } from './statistics.js';

export const THEMES = ['light', 'dark'] as const;
export type Theme = (typeof THEMES)[number];

/**
 * Okabe and Ito's colours, which colour-blind readers tell apart: ours and the peers'. Every bar says besides whose it is.
 */
const COLOURS = {
  light: {
    paper: '#ffffff',
    ink: '#1f2328',
    faint: '#59636e',
    grid: '#d8dee4',
    ours: '#0072B2',
    peer: '#E69F00',
  },
  dark: {
    paper: '#0d1117',
    ink: '#f0f6fc',
    faint: '#9da7b3',
    grid: '#30363d',
    ours: '#56B4E9',
    peer: '#E69F00',
  },
} as const;
export const OURS = 'Switchyard';
const [WIDTH, BAR, NAMES] = [440, 20, 116]; // pixels
/** More than the limit is drawn up to here; the label says how much it is. */
const MOST = 1.2;

export interface Bar {
  readonly group: string;
  readonly who: string;
  /** Of the limit, as far as it is drawn. */
  readonly drawn: number;
  readonly label: string;
}

/** A text in lines that a chart is wide enough for. */
function lines(text: string): string[] {
  const out = [''];
  for (const word of text.split(' ')) {
    const longer = `${out.at(-1)} ${word}`.trim();
    if (longer.length <= 64) out[out.length - 1] = longer;
    else out.push(word);
  }
  return out;
}

/** What tells figures of one chart apart, in words. */
function groupsOf(figures: readonly Figure[]): string[] {
  const varied = (key: 'metric' | 'format' | 'threads' | 'tier'): boolean =>
    new Set(figures.map((f) => f[key])).size > 1;
  const [metric, format, threads, tier] = (['metric', 'format', 'threads', 'tier'] as const).map(varied);
  return figures.map((f) =>
    [
      metric || f.shape === '' ? f.metric : '',
      f.shape,
      format ? f.format : '',
      threads ? plural(f.threads, 'thread') : '',
      tier ? f.tier : '',
    ]
      .filter((part) => part !== '')
      .join(', '),
  );
}

/** Ours first, then the peers, for each figure that has a limit. */
export function barsOf(figures: readonly Figure[]): Bar[] {
  const groups = groupsOf(figures);
  return figures.flatMap((f, i) => {
    const bar = (who: string, value: number): Bar => {
      const share = timesBetter(value, f.limit as number, f.unit);
      const label = `${percent(share)} · ${amount(value)} ${f.unit}`;
      return { group: groups[i] as string, who, drawn: Math.min(share, MOST), label };
    };
    return [bar(OURS, f.median), ...f.peers.map((p) => bar(p.name, p.median))];
  });
}

/** A chart with a row for each figure; all of them have limits. */
export async function chartSvg(title: string, figures: readonly Figure[], theme: Theme): Promise<string> {
  const bars = barsOf(figures);
  const { paper, ink, faint, grid, ours, peer } = COLOURS[theme];
  const longest = Math.max(1, ...bars.map((b) => b.drawn));
  const groups = [...new Set(bars.map((b) => b.group))];
  const row = (group: string, i: number): Record<string, unknown> => {
    const axis = { format: '.0%', values: [0, 0.25, 0.5, 0.75, 1] };
    const last = i === groups.length - 1;
    const x = {
      field: 'drawn',
      type: 'quantitative',
      scale: { domain: [0, longest], nice: false },
      axis: { ...axis, labels: last, title: last ? "share of this machine's measured limit" : null },
    };
    // Names take the same width in every row, so that the bars begin below each other.
    const names = { minExtent: NAMES, maxExtent: NAMES, labelPadding: 6 };
    const y = { field: 'who', type: 'nominal', sort: null, title: null, axis: names };
    const color = { condition: { test: `datum.who === '${OURS}'`, value: ours }, value: peer };
    return {
      title: { text: group, fontSize: 12, offset: 4, frame: 'group' },
      width: WIDTH,
      height: { step: BAR },
      data: { values: bars.filter((bar) => bar.group === group) },
      layer: [
        { mark: { type: 'bar', height: { band: 0.8 } }, encoding: { x, y, color } },
        { mark: { type: 'rule', color: ink, strokeDash: [4, 3] }, encoding: { x: { datum: 1 } } },
        {
          // In a column beside the bars, where no line crosses it.
          mark: { type: 'text', align: 'left', fontSize: 12, color: ink },
          encoding: { x: { value: WIDTH + 8 }, y, text: { field: 'label' } },
        },
      ],
    };
  };
  const subtitle = lines(`Medians. ${figures[0]?.machine ?? ''}`);
  const spec = {
    title: { text: title, subtitle, fontSize: 16, offset: 12 },
    spacing: 10,
    vconcat: groups.map(row),
    config: {
      background: paper,
      font: 'Helvetica, Arial, sans-serif',
      padding: 12,
      view: { stroke: null },
      axis: {
        labelColor: ink,
        titleColor: faint,
        labelFontSize: 12,
        titleFontSize: 12,
        titleFontWeight: 'normal',
        gridColor: grid,
        domain: false,
        ticks: false,
      },
      title: {
        color: ink,
        subtitleColor: faint,
        subtitleFontSize: 12,
        anchor: 'start',
        subtitlePadding: 4,
      },
    },
  };
  const { spec: vega } = compile(spec as unknown as TopLevelSpec);
  const view = new View(parse(vega), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  return `${svg}\n`;
}
