import Table from 'cli-table3';
import { type Style, styleFor } from './style.js';

export interface TableOptions {
  /** Columns that hold numbers, from 0. */
  right?: readonly number[];
  style?: Style;
}

/** A table of text without side borders; the head may be left out. */
export function table(
  head: readonly string[],
  rows: readonly (readonly (string | number)[])[],
  { right = [], style = styleFor(process.stdout) }: TableOptions = {},
): string {
  const columns = Math.max(head.length, ...rows.map((row) => row.length));
  const out = new Table({
    head: head.map((name) => style.bold(name)),
    colAligns: Array.from({ length: columns }, (_, i) => (right.includes(i) ? 'right' : 'left')),
    // The library's own colours know nothing of pipes.
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
    chars: {
      top: '',
      'top-mid': '',
      'top-left': '',
      'top-right': '',
      bottom: '',
      'bottom-mid': '',
      'bottom-left': '',
      'bottom-right': '',
      left: '',
      'left-mid': '',
      mid: '',
      'mid-mid': '',
      right: '',
      'right-mid': '',
      middle: '',
    },
  });
  out.push(...rows.map((row) => row.map(String)));
  return out
    .toString()
    .split('\n')
    .map((line) => line.trimEnd())
    .join('\n');
}
