/** Ranks and likeliest tokens of choices, as the native op gives them. */
import type { PackedTensors } from '../../core/packed-tensors.js';
import type { Tensor } from '../../core/tensor.js';
import type { Choice } from './sampling.js';

const LEAST = 8;

/** Likeliest tokens that a program computes: few numbers, as each makes a program of its own. */
export function paddedTop(top: number, vocabSize: number): number {
  let padded = top === 0 ? 0 : LEAST;
  while (padded < top) padded *= 4;
  return Math.min(padded, vocabSize);
}

/** i32 ranks [rows], i32 tokens [rows, n] and f32 log-probabilities of the n likeliest. */
export type LikelyTensors = { readonly [name in 'ranks' | 'topTokens' | 'topLogprobs']: Tensor };

/**
 * A choice with what `tokenLogprobs` gave of the n likeliest tokens in its place.
 * @param row the choice's number in the step
 */
export function withLikely(
  choice: Choice,
  { ints, floats }: PackedTensors<LikelyTensors>,
  n: number,
  row: number,
): Choice {
  const top = Array.from({ length: n }, (_, j) => ({
    token: ints.topTokens[row * n + j] as number,
    logprob: floats.topLogprobs[row * n + j] as number,
  }));
  return { ...choice, rank: ints.ranks[row] as number, top };
}
