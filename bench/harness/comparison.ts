/** What changed from one run of the benches to another on the same machine. */
import Table from 'cli-table3';
import { type Figure, figureKey } from './figure.js';
import { amount } from './report.js';
import { timesBetter } from './statistics.js';

export interface Change {
  readonly key: string;
  readonly unit: string;
  readonly before: number;
  readonly after: number;
  /** How many times better it became, and the least and most that the spreads of both allow. */
  readonly ratio: number;
  readonly least: number;
  readonly most: number;
  /** Whether the spreads of both runs lie apart. */
  readonly clear: boolean;
}

export interface Comparison {
  readonly changes: readonly Change[];
  readonly onlyBefore: readonly string[];
  readonly onlyAfter: readonly string[];
}

/** @throws Error where the figures come from different machines */
export function compareFigures(before: readonly Figure[], after: readonly Figure[]): Comparison {
  const machines = new Set([...before, ...after].map((f) => f.machine));
  if (machines.size > 1) {
    throw new Error(
      `[compare] got figures of ${machines.size} machines, expected one: ${[...machines].map((m) => `'${m}'`).join(' and ')}`,
    );
  }
  const old = new Map(before.map((f) => [figureKey(f), f]));
  const fresh = new Map(after.map((f) => [figureKey(f), f]));
  const changes = [...fresh].flatMap(([key, b]) => {
    const a = old.get(key);
    return a && a.unit === b.unit ? [change(key, a, b)] : [];
  });
  return {
    changes,
    onlyBefore: [...old.keys()].filter((key) => !fresh.has(key)),
    onlyAfter: [...fresh.keys()].filter((key) => !old.has(key)),
  };
}

function change(key: string, a: Figure, b: Figure): Change {
  const ends = [timesBetter(b.min, a.max, b.unit), timesBetter(b.max, a.min, b.unit)].sort((x, y) => x - y);
  const [least, most] = ends as [number, number];
  return {
    key,
    unit: b.unit,
    before: a.median,
    after: b.median,
    ratio: timesBetter(b.median, a.median, b.unit),
    least,
    most,
    clear: least > 1 || most < 1,
  };
}

export function comparisonTable({ changes, onlyBefore, onlyAfter }: Comparison): string {
  const table = new Table({
    head: ['figure', 'before', 'after', 'times better', 'least … most', ''],
    style: { head: [], border: [], compact: true },
    colAligns: ['left', 'right', 'right', 'right', 'right', 'left'],
  });
  for (const c of changes) {
    table.push([
      c.key,
      `${amount(c.before)} ${c.unit}`,
      `${amount(c.after)} ${c.unit}`,
      c.ratio.toFixed(3),
      `${c.least.toFixed(3)} … ${c.most.toFixed(3)}`,
      c.clear ? (c.ratio > 1 ? 'better' : 'worse') : 'within the spread',
    ]);
  }
  const lines = [table.toString()];
  if (onlyBefore.length > 0) lines.push(`only before: ${onlyBefore.join('; ')}`);
  if (onlyAfter.length > 0) lines.push(`only after: ${onlyAfter.join('; ')}`);
  return lines.join('\n');
}
