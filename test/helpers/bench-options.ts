import type { BenchOptions } from '../../bench/harness/case.js';

/** Options of a bench that measures as little as it can, and what a test changes in them. */
export const benchOptions = (given: Partial<BenchOptions> = {}): BenchOptions => ({
  smoke: false,
  threads: 1,
  model: null,
  draft: null,
  formats: [],
  shapes: [],
  tokens: [],
  runs: 1,
  seconds: 0,
  peers: false,
  ...given,
});
