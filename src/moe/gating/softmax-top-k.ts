import { softmax } from '../../core/ops/norm.js';
import { routeTopK } from '../../core/ops/routing.js';
import type { Gating } from './gating.js';
import { checkRange, withDefaults } from './shared/options.js';
import { rankingOf, weightsAt } from './shared/weights.js';

export interface SoftmaxTopKOptions {
  /** Divide the chosen probabilities by their sum (Mixtral; Qwen's norm_topk_prob). Default true. */
  renormalize: boolean;
  /** Constant factor on the weights. Default 1. */
  scale: number;
}

/** p = softmax(logits) over all experts; the k largest p are the weights (Jiang et al. 2024, section 2.1). */
export function softmaxTopK(options?: Partial<SoftmaxTopKOptions>): Gating {
  const rule = withDefaults('softmax-top-k', options, { renormalize: true, scale: 1 });
  checkRange('softmax-top-k', { scale: rule.scale }, 0);
  return {
    name: 'softmax-top-k',
    options: rule,
    route(logits, { topK, selectionBias }) {
      const probabilities = softmax(logits);
      return {
        kind: 'sparse',
        ...routeTopK(logits, { k: topK, score: 'softmax', bias: selectionBias, ...rule }),
        probabilities,
        // without a bias the order is that of the logits, which do not underflow
        ranking: () => rankingOf(selectionBias ? probabilities : logits, selectionBias),
        weigh: (expertIds) => weightsAt(probabilities, expertIds, rule),
      };
    },
  };
}
