import { balancedAssignment } from '../../core/ops/assignment.js';
import { sigmoid, stopGradient } from '../../core/ops/elementwise.js';
import { checkedLogits } from '../../core/ops/logits.js';
import { softmax } from '../../core/ops/norm.js';
import { argmax } from '../../core/ops/reduce.js';
import { reshape } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';
import { rankingOf, scoresAt } from './shared/weights.js';

/**
 * BASE layers (Lewis et al. 2021, eq. 1-4): tokens are assigned so that every expert gets equally many (at most ⌈N / E⌉) and the
 * sum of the tokens' scores is the largest possible; the weight is sigmoid(score). Outside of training each token goes to its best expert.
 */
export function base(options?: Record<string, never>): Gating {
  withDefaults('base', options, {});
  return {
    name: 'base',
    options: {},
    topK: () => 1,
    route(raw, { training }) {
      const logits = checkedLogits(raw);
      const chosen = training ? balancedAssignment(stopGradient(logits)) : argmax(logits);
      const expertIds = reshape(chosen, [logits.shape[0] as number, 1]);
      return {
        kind: 'sparse',
        expertIds,
        combineWeights: sigmoid(scoresAt(logits, expertIds)),
        probabilities: softmax(logits),
        // a balanced assignment knows no next-best expert: ranking anew would unbalance it
        ...(training
          ? {}
          : {
              ranking: () => rankingOf(logits),
              weigh: (ids: Tensor) => sigmoid(scoresAt(logits, ids, Number.NEGATIVE_INFINITY)),
            }),
      };
    },
  };
}
