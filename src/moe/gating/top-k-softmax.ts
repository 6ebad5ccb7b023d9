import { softmax } from '../../core/ops/norm.js';
import { routeTopK } from '../../core/ops/routing.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';
import { rankingOf, scoresAt } from './shared/weights.js';

/**
 * KeepTopK: all but the k largest logits become -∞, the weights are the softmax of what is left (Shazeer et al. 2017,
 * eq. 3 and 5, without noise).
 */
export function topKSoftmax(options?: Record<string, never>): Gating {
  withDefaults('top-k-softmax', options, {});
  return {
    name: 'top-k-softmax',
    options: {},
    route: (logits, { topK, selectionBias }) => ({
      kind: 'sparse',
      ...routeTopK(logits, { k: topK, score: 'softmax-of-chosen', bias: selectionBias }),
      probabilities: softmax(logits),
      ranking: () => rankingOf(logits, selectionBias),
      weigh: (expertIds) => softmax(scoresAt(logits, expertIds, Number.NEGATIVE_INFINITY)),
    }),
  };
}
