import { expect } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';

export interface Closeness {
  /** Largest difference allowed, relative to the largest value of what is wanted (or absolute). */
  tolerance: number;
  absolute?: boolean;
  /** Real rows: `data` is cut in this many rows, and only those that are 1 count. Default: all. */
  mask?: readonly number[];
}

/** max|got - want| / max|want| over the real rows (without the division where `absolute`). */
export function distance(
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { absolute = false, mask }: Omit<Closeness, 'tolerance'> = {},
): number {
  const width = mask ? want.length / mask.length : want.length;
  let difference = 0;
  let largest = 0;
  for (let i = 0; i < want.length; i++) {
    if (mask && mask[Math.floor(i / width)] !== 1) continue;
    const [a, b] = [got[i] as number, want[i] as number];
    const d = Math.abs(a - b);
    if (!(d <= difference)) difference = d; // NaN stays
    if (Number.isNaN(d)) return Number.NaN;
    largest = Math.max(largest, Math.abs(b));
  }
  return absolute || largest === 0 ? difference : difference / largest;
}

/** Worst distances of this process by kind of value, for reports. */
export const worst = new Map<string, number>();

/** Fails where `got` is not as close to `want` as asked. `what` names the value; its last word counts as its kind. */
export function expectClose(
  what: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  { tolerance, ...rest }: Closeness,
): void {
  expect(got.length, `number of values of ${what}`).toBe(want.length);
  const d = distance(got, want, rest);
  const kind = what.split(' ').at(-1) as string;
  if (!(d <= (worst.get(kind) ?? -1))) worst.set(kind, d);
  expect(d, `distance of ${what}`).toBeLessThanOrEqual(tolerance);
}

/** The same bits in every real row; reports the first that differs. */
export function expectSame(
  what: string,
  got: ArrayLike<number>,
  want: ArrayLike<number>,
  mask?: readonly number[],
): void {
  expect(got.length, `number of values of ${what}`).toBe(want.length);
  const width = mask ? want.length / mask.length : want.length;
  for (let i = 0; i < want.length; i++) {
    if (mask && mask[Math.floor(i / width)] !== 1) continue;
    if (!Object.is(got[i], want[i]))
      expect({ what, index: i, value: got[i] }).toEqual({ what, index: i, value: want[i] });
  }
}

/**
 * What two ways to the same values must agree on: on the CPU every bit, since no sum depends on the rows beside it; on a GPU,
 * whose kernels for few and for many rows add in other orders, values to 1e-5.
 */
export function expectTwins(what: string, got: ArrayLike<number>, want: ArrayLike<number>): void {
  if (defaultDevice().kind === 'cpu') expectSame(what, got, want);
  else expectClose(what, got, want, { tolerance: 1e-5 });
}
