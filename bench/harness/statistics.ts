/** What a bench says about repeated timings. */

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly runs: number;
}

/** @throws RangeError for no values, or one that is no finite number */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0 || !values.every(Number.isFinite)) {
    throw new RangeError(`[summarize] got [${values.join(', ')}], expected at least one finite number`);
  }
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  const lower = sorted[sorted.length - 1 - middle] as number;
  const sum = lower + upper;
  const median = Number.isFinite(sum) ? sum / 2 : lower / 2 + upper / 2;
  return { median, min: sorted[0] as number, max: sorted.at(-1) as number, runs: sorted.length };
}

/** Whether less is better: times, sizes and shares of a time, in contrast to rates. */
export const lessIsBetter = (unit: string): boolean =>
  ['ns', 'µs', 'ms', 's', 'MiB', 'bytes', '%'].includes(unit);

/** How many times better `a` is than `b`, above 1 where it is better. */
export const timesBetter = (a: number, b: number, unit: string): number =>
  lessIsBetter(unit) ? b / a : a / b;
