import { setTimeout as sleep } from 'node:timers/promises';
import type { BenchOptions } from './case.js';

/** Between contestants: the threads of some go on spinning after their work, on cores that the next one needs. */
const SETTLE_MS = 300;
/** Most runs of one figure: beyond, the median does not move. */
const MOST_RUNS = 200;

/**
 * Runs `once` for warmth, then at least `runs` times and until `seconds` are over. `once` may return its own milliseconds.
 * @returns milliseconds of each run
 */
export async function measure(
  options: BenchOptions,
  once: () => Promise<number | undefined> | Promise<void>,
): Promise<number[]> {
  const [values] = await interleave(options, [once]);
  return values as number[];
}

/** The same for several contestants in turns, A B A B …, so that a change of the machine meets all of them. */
export async function interleave(
  { smoke, runs, seconds }: BenchOptions,
  contestants: readonly (() => Promise<number | undefined> | Promise<void>)[],
): Promise<number[][]> {
  const timed = async (once: () => Promise<number | undefined> | Promise<void>): Promise<number> => {
    const start = performance.now();
    const own = await once();
    return own ?? performance.now() - start;
  };
  const values: number[][] = contestants.map(() => []);
  if (!smoke) for (const once of contestants) await timed(once);
  const started = performance.now();
  for (let i = 0; i < (smoke ? 1 : MOST_RUNS); i++) {
    if (i >= runs && performance.now() - started > seconds * 1000) break;
    for (const [c, once] of contestants.entries()) {
      if (contestants.length > 1 && !smoke) await sleep(SETTLE_MS);
      values[c]?.push(await timed(once));
    }
  }
  return values;
}
