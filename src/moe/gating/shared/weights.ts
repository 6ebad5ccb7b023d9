/** Combine weights from scores: what policies do alike. */
import { add, div, less, maximum, mul, where } from '../../../core/ops/elementwise.js';
import { takeAlong, topK } from '../../../core/ops/indexing.js';
import { checkedLogits } from '../../../core/ops/logits.js';
import { sum } from '../../../core/ops/reduce.js';
import type { Tensor } from '../../../core/tensor.js';

/** scores [N, E] at expertIds i32 [N, K] → [N, K]; `none` at -1. */
export const scoresAt = (scores: Tensor, expertIds: Tensor, none = 0): Tensor =>
  where(less(expertIds, 0), none, takeAlong(scores, maximum(expertIds, 0)));

/**
 * All experts of each token by falling score (+ bias), ties to the lower index: i32 [N, E]. Checked: where capacity ranks anew,
 * the routing op that would refuse NaN is no part of the program.
 */
export const rankingOf = (scores: Tensor, bias: Tensor | null = null): Tensor =>
  topK(checkedLogits(bias ? add(scores, bias) : scores), scores.shape[1] as number).indices;

/** Keeps a token without experts from dividing by zero. */
const SMALLEST_SUM = 1e-30;

/** Scores of a choice, divided by their sum where asked, times `scale`: [N, K]. */
export function weightsAt(
  scores: Tensor,
  expertIds: Tensor,
  { renormalize, scale }: { renormalize: boolean; scale: number },
): Tensor {
  const chosen = scoresAt(scores, expertIds);
  const shares = renormalize
    ? div(chosen, maximum(sum(chosen, -1, { keepDims: true }), SMALLEST_SUM))
    : chosen;
  return mul(shares, scale);
}
