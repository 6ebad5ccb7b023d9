/** What a routing did, in numbers. */
import { SwitchyardError } from '../core/errors.js';

export interface LoadStatistics {
  /** Choices that each expert got. */
  readonly tokensPerExpert: readonly number[];
  /** Entropy of the load in bits, at most log2(E). */
  readonly entropy: number;
  /** Standard deviation over mean of the load. */
  readonly cv: number;
  /** How far the fullest expert is above the mean load: max / mean - 1 (MaxVio, Wang et al. 2024). */
  readonly maxViolation: number;
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
    else load[checkExpert('loadStatistics', e, nExperts)]++;
  }
  return statisticsOfLoad(load, dropped);
}

function checkExpert(where: string, e: number, nExperts: number): number {
  if (Number.isInteger(e) && e >= 0 && e < nExperts) return e;
  throw new SwitchyardError('ERR_OPTION', `[${where}] got expert ${e}, expected -1 to ${nExperts - 1}`);
}

/** Load statistics of counts that were gathered already. */
export function statisticsOfLoad(load: readonly number[], dropped = 0): LoadStatistics {
  const taken = load.reduce((a, b) => a + b, 0);
  const mean = taken / Math.max(1, load.length);
  const variance = load.reduce((sum, n) => sum + (n - mean) ** 2, 0) / Math.max(1, load.length);
  const total = taken + dropped;
  return {
    tokensPerExpert: load,
    entropy: entropyOf(load),
    cv: mean === 0 ? 0 : Math.sqrt(variance) / mean,
    maxViolation: mean === 0 ? 0 : Math.max(...load) / mean - 1,
    dropped: total === 0 ? 0 : dropped / total,
  };
}

/** In bits. */
function entropyOf(counts: readonly number[]): number {
  const total = counts.reduce((a, b) => a + b, 0);
  return counts.reduce((sum, n) => (n === 0 ? sum : sum - (n / total) * Math.log2(n / total)), 0);
}

export interface ConfidenceStatistics {
  /** Mean of each token's largest router probability. */
  readonly meanTop: number;
  /** Mean entropy of the tokens' router probabilities in bits. */
  readonly meanEntropy: number;
}

/** How sure the router is. @param probabilities [N, E], row-major */
export function routerConfidence(probabilities: ArrayLike<number>, nExperts: number): ConfidenceStatistics {
  if (nExperts < 1 || probabilities.length % nExperts !== 0) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[routerConfidence] got ${probabilities.length} probabilities, expected a multiple of ${nExperts} experts`,
    );
  }
  const tokens = probabilities.length / nExperts;
  let top = 0;
  let entropy = 0;
  for (let t = 0; t < tokens; t++) {
    const row = Array.from({ length: nExperts }, (_, e) => probabilities[t * nExperts + e] as number);
    top += Math.max(...row);
    entropy += entropyOf(row);
  }
  return { meanTop: tokens === 0 ? 0 : top / tokens, meanEntropy: tokens === 0 ? 0 : entropy / tokens };
}

export interface Specialisation {
  /** The kinds, in the order of the rows. */
  readonly kinds: readonly string[];
  /** [kinds][E]: choices of each expert by tokens of each kind. */
  readonly counts: readonly (readonly number[])[];
  /** [E]: entropy in bits of the kinds that an expert meets; 0: it meets one kind only. */
  readonly entropyPerExpert: readonly number[];
  /** Mutual information of kind and expert over the smaller of their entropies: 0 blind, 1 one decides the other. */
  readonly normalizedMutualInformation: number;
}

/**
 * Which kinds of tokens meet which expert.
 * @param expertIds [N, K], row-major, -1: dropped; @param kinds of the N tokens: parts of speech, languages, token texts
 */
export function specialisation(
  expertIds: ArrayLike<number>,
  kinds: readonly string[],
  nExperts: number,
): Specialisation {
  const k = kinds.length === 0 ? 0 : expertIds.length / kinds.length;
  if (!Number.isInteger(k) || (kinds.length === 0 && expertIds.length > 0)) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[specialisation] got ${expertIds.length} expert ids for ${kinds.length} tokens, expected a multiple`,
    );
  }
  const names = [...new Set(kinds)].sort();
  const row = new Map(names.map((name, i) => [name, i]));
  const counts = names.map(() => new Array<number>(nExperts).fill(0));
  for (let i = 0; i < expertIds.length; i++) {
    const e = expertIds[i] as number;
    if (e === -1) continue;
    const of = counts[row.get(kinds[Math.floor(i / k)] as string) as number] as number[];
    of[checkExpert('specialisation', e, nExperts)]++;
  }
  const perExpert = Array.from({ length: nExperts }, (_, e) => counts.map((of) => of[e] as number));
  const byKind = entropyOf(counts.map((of) => of.reduce((a, b) => a + b, 0)));
  const byExpert = entropyOf(perExpert.map((of) => of.reduce((a, b) => a + b, 0)));
  const shared = byKind + byExpert - entropyOf(counts.flat());
  const most = Math.min(byKind, byExpert);
  return {
    kinds: names,
    counts,
    entropyPerExpert: perExpert.map(entropyOf),
    normalizedMutualInformation: most > 0 ? Math.max(0, shared) / most : 0,
  };
}
