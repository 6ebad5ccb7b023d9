/** What a routing did, in numbers. */
import { SwitchyardError } from '../core/errors.js';

export interface LoadStatistics {
  /** Choices that each expert got. */
  readonly tokensPerExpert: readonly number[];
  /** Entropy of the load in bits, at most log2(E). */
  readonly entropy: number;
  /** Standard deviation over mean of the load. */
  readonly cv: number;
  /** Share of choices that no expert took. */
  readonly dropped: number;
}

/** Load statistics of expert ids (-1: dropped). */
export function loadStatistics(expertIds: ArrayLike<number>, nExperts: number): LoadStatistics {
  const load = new Array<number>(nExperts).fill(0);
  let dropped = 0;
  for (let i = 0; i < expertIds.length; i++) {
    const e = expertIds[i] as number;
    if (e === -1) dropped++;
    else if (e >= 0 && e < nExperts) load[e] = (load[e] as number) + 1;
    else
      throw new SwitchyardError(
        'ERR_OPTION',
        `[loadStatistics] got expert ${e}, expected -1 to ${nExperts - 1}`,
      );
  }
  return statisticsOfLoad(load, dropped);
}

/** Load statistics of counts that were gathered already. */
export function statisticsOfLoad(load: readonly number[], dropped = 0): LoadStatistics {
  const taken = load.reduce((a, b) => a + b, 0);
  const mean = taken / Math.max(1, load.length);
  const variance = load.reduce((sum, n) => sum + (n - mean) ** 2, 0) / Math.max(1, load.length);
  const entropy = load.reduce((sum, n) => (n === 0 ? sum : sum - (n / taken) * Math.log2(n / taken)), 0);
  const total = taken + dropped;
  return {
    tokensPerExpert: load,
    entropy,
    cv: mean === 0 ? 0 : Math.sqrt(variance) / mean,
    dropped: total === 0 ? 0 : dropped / total,
  };
}
