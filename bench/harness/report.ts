/** Figures as a table for people. */
import Table from 'cli-table3';
import type { Figure } from './figure.js';

const BAR = 12;

/** '██████▌     ' for a share of 1; more than the limit fills the bar. */
export function bar(share: number): string {
  const eighths = Math.round(Math.min(Math.max(share, 0), 1) * BAR * 8);
  const part = ' ▏▎▍▌▋▊▉'[eighths % 8] as string;
  const full = '█'.repeat(Math.floor(eighths / 8));
  return (full + (eighths % 8 ? part : '')).padEnd(BAR);
}

export function amount(value: number): string {
  if (value === 0) return '0';
  const digits = Math.abs(value) >= 1000 ? 0 : Math.abs(value) >= 100 ? 1 : Math.abs(value) >= 10 ? 2 : 3;
  return value.toFixed(digits);
}

export const percent = (share: number): string => `${Math.round(share * 100)} %`;

export const plural = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`;

/** One table for the figures of a case. */
export function figureTable(figures: readonly Figure[]): string {
  const peers = figures.some((f) => f.peers.length > 0);
  const head = ['what', 'format', 'median', 'min … max', 'share of limit'];
  if (peers) head.push('peers, the best first', 'times better');
  const table = new Table({
    head,
    style: { head: [], border: [], compact: true },
    colAligns: ['left', 'left', 'right', 'right', 'left', 'left', 'right'],
  });
  for (const f of figures) {
    const row = [
      [f.metric, f.shape, `${f.threads} thr`].filter((s) => s !== '').join(', '),
      f.format === '' ? f.tier : `${f.format} (${f.tier})`,
      `${amount(f.median)} ${f.unit}`,
      `${amount(f.min)} … ${amount(f.max)} (${f.runs})`,
      f.limitShare === null
        ? ''
        : `${bar(f.limitShare)} ${percent(f.limitShare)} of ${f.goal ? 'goal ' : ''}${amount(f.limit as number)}`,
    ];
    if (peers) {
      row.push(f.peers.map((p) => `${p.name} ${amount(p.median)}`).join('\n'));
      row.push(f.peers.map((p) => p.ratio.toFixed(2)).join('\n'));
    }
    table.push(row);
  }
  return table.toString();
}
