import { checkedLogits } from '../../core/ops/logits.js';
import { softmax } from '../../core/ops/norm.js';
import { iota } from '../../core/ops/shape.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';

/** Every expert runs on every token: y = Σ_e softmax(logits)_e · expert_e(x) (Jordan & Jacobs 1994, without the tree). */
export function dense(options?: Record<string, never>): Gating {
  withDefaults('dense', options, {});
  return {
    name: 'dense',
    options: {},
    topK: (nExperts) => nExperts,
    route(logits) {
      const probabilities = softmax(checkedLogits(logits));
      return {
        kind: 'sparse',
        expertIds: iota(logits.shape, 1),
        combineWeights: probabilities,
        probabilities,
      };
    },
  };
}
