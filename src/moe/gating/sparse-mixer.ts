import {
  abs,
  add,
  and,
  div,
  equal,
  greater,
  less,
  maximum,
  or,
  sub,
  where,
} from '../../core/ops/elementwise.js';
import { topK as bestOf, oneHot, takeAlong } from '../../core/ops/indexing.js';
import { checkedLogits } from '../../core/ops/logits.js';
import { softmax } from '../../core/ops/norm.js';
import { max, sum } from '../../core/ops/reduce.js';
import { iota, reshape } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Gating } from './gating.js';
import { checkRange, withDefaults } from './shared/options.js';
import { rankingOf } from './shared/weights.js';

export interface SparseMixerOptions {
  /** Logits that lie further below the best than 2 · jitter of their size take no part. Default 0.01. */
  jitter: number;
}

/**
 * The k largest logits, each weighed by a softmax over the logits near it, those before it left out (Liu et al. 2024, GRIN,
 * section 3; PhiMoE). The weights do not sum to 1. The random choice of training and
 * its estimator of gradients are not part of it: gradients are those of the weights.
 */
export function sparseMixer(options?: Partial<SparseMixerOptions>): Gating {
  const rule = withDefaults('sparse-mixer', options, { jitter: 0.01 });
  checkRange('sparse-mixer', { jitter: rule.jitter }, 0);
  return {
    name: 'sparse-mixer',
    options: rule,
    route(logits, { topK, selectionBias }) {
      const preference = checkedLogits(selectionBias ? add(logits, selectionBias) : logits);
      const weigh = (ids: Tensor): Tensor => mixedWeights(logits, ids, rule.jitter);
      const expertIds = bestOf(preference, topK).indices; // [N, K]
      return {
        kind: 'sparse',
        expertIds,
        combineWeights: weigh(expertIds),
        probabilities: softmax(logits),
        ranking: () => rankingOf(logits, selectionBias),
        weigh,
      };
    },
  };
}

/** Weights of a choice i32 [N, K] from logits [N, E]; 0 at -1. Chosen experts of larger logits come before. */
function mixedWeights(logits: Tensor, ids: Tensor, jitter: number): Tensor {
  const [n, e] = logits.shape as [number, number];
  const k = ids.shape[1] as number;
  const known = maximum(ids, 0);
  const all = reshape(logits, [n, 1, e]);
  const own = reshape(takeAlong(logits, known), [n, k, 1]);
  const chosen = reshape(greater(sum(oneHot(ids, e), 1), 0), [n, 1, e]);
  const lower = less(iota([1, 1, e], 2), reshape(known, [n, k, 1]));
  const before = and(chosen, or(greater(all, own), and(equal(all, own), lower)));
  const left = where(before, -Infinity, all); // [N, K, E]
  const best = max(left, -1, { keepDims: true });
  const far = greater(div(sub(best, all), maximum(abs(all), best)), 2 * jitter);
  const shares = softmax(where(far, -Infinity, left));
  const picked = reshape(takeAlong(shares, reshape(known, [n, k, 1])), [n, k]);
  return where(less(ids, 0), 0, picked);
}
