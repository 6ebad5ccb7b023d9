/** The likeliest next tokens and their log-probabilities. */

import type { Alternatives } from '../continuation.js';
import { logSumExp } from '../log-sum-exp.js';

export interface Candidate {
  readonly token: number;
  readonly logprob: number;
}

/**
 * The `count` largest of a row of logits [V] as log-probabilities, likeliest first, ties to the lower id; none of probability 0.
 * @param penalties subtracted from the log-probabilities of these tokens before they are compared
 * @param norm subtracted from the logits; 0 where they are log-probabilities already
 */
export function likeliest(
  logits: Float32Array,
  count: number,
  penalties: ReadonlyMap<number, number> = new Map(),
  norm = logSumExp(logits),
): Candidate[] {
  // a penalty only lowers: `count` and as many as are lowered hold all that can be among the largest
  const best = largest(logits, count + penalties.size)
    .map((token) => ({ token, logprob: (logits[token] as number) - norm - (penalties.get(token) ?? 0) }))
    .filter(({ logprob }) => logprob > -Infinity)
    .sort((a, b) => b.logprob - a.logprob || a.token - b.token);
  return best.slice(0, count);
}

/** What else might have stood in a token's place, as `topLogprobs` has it: `count` of the likeliest, and how many are likelier. */
export function alternativesTo(logits: Float32Array, token: number, count: number): Alternatives {
  const own = logits[token] as number;
  let rank = 1;
  for (const v of logits) if (v > own) rank++;
  return { rank, top: likeliest(logits, count) };
}

/** Places of the `count` largest values, falling, ties to the lower place. */
function largest(x: Float32Array, count: number): number[] {
  const places: number[] = [];
  if (count < 1) return places;
  let least = -Infinity;
  for (let i = 0; i < x.length; i++) {
    const v = x[i] as number;
    if (places.length === count && !(v > least)) continue;
    let at = places.length;
    while (at > 0 && v > (x[places[at - 1] as number] as number)) at--;
    places.splice(at, 0, i);
    if (places.length > count) places.pop();
    least = x[places[places.length - 1] as number] as number;
  }
  return places;
}
