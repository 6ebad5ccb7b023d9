import { checkWhole } from '../../core/errors.js';
import { div, equal, mul, sigmoid, stopGradient, where } from '../../core/ops/elementwise.js';
import { checkedLogits } from '../../core/ops/logits.js';
import { softmax } from '../../core/ops/norm.js';
import { argmax, sum } from '../../core/ops/reduce.js';
import { reshape } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';
import { rankingOf, scoresAt } from './shared/weights.js';

export interface SinkhornOptions {
  /** Times that rows, then columns are scaled to their sums. Default 8. */
  rounds: number;
}

/**
 * Balanced top-1 by Sinkhorn's algorithm (Clark et al. 2022, section 3.2, S-BASE): the plan M = exp(logits) is scaled until rows
 * sum to 1 and columns to N / E; a token's expert is the largest of its row, its weight sigmoid(logit). Outside of training the
 * expert is that of the largest logit, so that a token does not depend on its neighbours.
 */
export function sinkhorn(options?: Partial<SinkhornOptions>): Gating {
  const { rounds } = withDefaults('sinkhorn', options, { rounds: 8 });
  checkWhole('sinkhorn', 'rounds', rounds, 1);
  return {
    name: 'sinkhorn',
    options: { rounds },
    topK: () => 1,
    route(raw, { training }) {
      const logits = checkedLogits(raw);
      const scores = training ? sinkhornPlan(stopGradient(logits), rounds) : logits;
      const expertIds = reshape(argmax(scores), [logits.shape[0] as number, 1]);
      return {
        kind: 'sparse',
        expertIds,
        combineWeights: sigmoid(scoresAt(logits, expertIds)),
        probabilities: softmax(logits),
        selectionLogits: scores,
        ranking: () => rankingOf(scores),
        weigh: (ids) => sigmoid(scoresAt(logits, ids, Number.NEGATIVE_INFINITY)),
      };
    },
  };
}

/** exp(logits) [N, E] after `rounds` of scaling rows to sum 1 and columns to sum N / E. */
export function sinkhornPlan(logits: Tensor, rounds: number): Tensor {
  const [n, e] = logits.shape as [number, number];
  let m = softmax(logits); // the first scaling of rows, without overflow
  for (let round = 0; round < rounds; round++) {
    if (round > 0) m = scaled(m, 1, 1);
    m = scaled(m, 0, n / e);
  }
  return m;
}

/** Sums over `axis` become `total`; a sum of 0 stays. */
function scaled(m: Tensor, axis: number, total: number): Tensor {
  const s = sum(m, axis, { keepDims: true });
  return mul(div(m, where(equal(s, 0), 1, s)), total);
}
