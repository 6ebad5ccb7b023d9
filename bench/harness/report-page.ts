/** Figures as a Markdown page, with a chart of each case that has limits of the machine. */
import { chartSvg, THEMES, type Theme } from './chart.js';
import type { Figure } from './figure.js';
import { amount, percent } from './report.js';

export interface Section {
  readonly name: string;
  readonly about: string;
  readonly figures: readonly Figure[];
}

/** [file, text] of a report: `report.md` and, for each chart, a light and a dark SVG. */
export async function reportFiles(sections: readonly Section[]): Promise<[string, string][]> {
  const files: [string, string][] = [];
  const shown = sections.filter(({ figures }) => figures.length > 0);
  for (const { name, figures } of shown) {
    for (const chart of chartsOf(name, figures)) {
      for (const theme of THEMES)
        files.push([chartFile(chart, theme), await chartSvg(chart.title, chart.figures, theme)]);
    }
  }
  return [['report.md', page(shown)], ...files];
}

export interface Chart {
  readonly title: string;
  readonly figures: readonly Figure[];
}

/** Figures in a chart at most: it must fit a screen or two. */
const MOST_FIGURES = 24;

/** The charts of a case: one, or where that would be long, one for each model, layer or other first part of a shape. */
export function chartsOf(name: string, figures: readonly Figure[]): Chart[] {
  const drawn = figures.filter(isCharted);
  if (drawn.length === 0) return [];
  if (drawn.length <= MOST_FIGURES) return [{ title: name, figures: drawn }];
  const subject = (f: Figure): string => f.shape.split(',')[0] || f.metric;
  const subjects = [...new Set(drawn.map(subject))];
  return subjects.map((s) => ({ title: `${name}, ${s}`, figures: drawn.filter((f) => subject(f) === s) }));
}

/** A bar needs a length: the share of what the machine can do. Goals are no such thing. */
export const isCharted = (f: Figure): boolean => f.limitShare !== null && !f.goal;

const chartFile = ({ title }: Chart, theme: Theme): string =>
  `${title.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}-${theme}.svg`;

function page(sections: readonly Section[]): string {
  const machines = [...new Set(sections.flatMap(({ figures }) => figures.map((f) => f.machine)))];
  const text = ['# Benchmarks', ''];
  for (const machine of machines) text.push(machine, '');
  text.push(
    'Medians, with the least and the most of all runs. *Limit*: what this machine can do by loops that do nothing else, or a goal',
    'where that is said. *Times better*: our median against a peer measured in turns with us, above 1 where we are better.',
    '',
  );
  for (const { name, about, figures } of sections) {
    text.push(`## ${name}`, '', `${capital(about)}.`, '');
    for (const chart of chartsOf(name, figures)) text.push(...picture(chart), '');
    text.push(...table(figures), '');
  }
  return `${text.join('\n').trimEnd()}\n`;
}

const capital = (s: string): string => s.charAt(0).toUpperCase() + s.slice(1);

const picture = (chart: Chart): string[] => [
  '<picture>',
  `  <source media="(prefers-color-scheme: dark)" srcset="${chartFile(chart, 'dark')}">`,
  `  <img src="${chartFile(chart, 'light')}" alt="${chart.title}: shares of the machine's limit, ours and the peers'">`,
  '</picture>',
];

function table(figures: readonly Figure[]): string[] {
  const peers = figures.some((f) => f.peers.length > 0);
  const limits = figures.some((f) => f.limit !== null);
  const head = ['what', 'shape', 'format', 'threads', 'median', 'least … most (runs)'];
  if (limits) head.push('limit', 'share');
  if (peers) head.push('peers, the best first', 'times better');
  const rows = figures.map((f) => {
    const row = [
      f.metric,
      f.shape,
      f.format === '' ? f.tier : `${f.format} (${f.tier})`,
      String(f.threads),
      `${amount(f.median)} ${f.unit}`,
      `${amount(f.min)} … ${amount(f.max)} (${f.runs})`,
    ];
    if (limits) {
      row.push(f.limit === null ? '' : `${f.goal ? 'goal ' : ''}${amount(f.limit)}`);
      row.push(f.limitShare === null ? '' : percent(f.limitShare));
    }
    if (peers) {
      const of = (p: Figure['peers'][0]): string =>
        `${p.name} ${amount(p.median)} (${amount(p.min)} … ${amount(p.max)})`;
      row.push(f.peers.map(of).join('<br>'), f.peers.map((p) => p.ratio.toFixed(2)).join('<br>'));
    }
    return row;
  });
  const numbers = new Set(['threads', 'median', 'least … most (runs)', 'limit', 'share', 'times better']);
  const line = (cells: readonly string[]): string => `| ${cells.map(escaped).join(' | ')} |`;
  return [line(head), line(head.map((h) => (numbers.has(h) ? '--:' : '---'))), ...rows.map(line)];
}

const escaped = (cell: string): string => cell.replaceAll('|', '\\|');
