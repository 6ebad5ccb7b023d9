import { checkWhole } from '../../core/errors.js';
import { div, sigmoid } from '../../core/ops/elementwise.js';
import { sum } from '../../core/ops/reduce.js';
import { routeTopK } from '../../core/ops/routing.js';
import type { Gating } from './gating.js';
import { checkRange, withDefaults } from './shared/options.js';
import { rankingOf, weightsAt } from './shared/weights.js';

export interface SigmoidTopKOptions {
  /** Equal runs of experts. Default 1. */
  groups: number;
  /** Groups that a token may choose from, the best ones. Default all. */
  topGroups: number;
  /** Divide the chosen scores by their sum. Default true. */
  renormalize: boolean;
  /** Constant factor on the weights (routed_scaling_factor). Default 1. */
  scale: number;
}

/**
 * s = sigmoid(logits); experts by s + bias, weights from s alone (DeepSeek-AI 2024, DeepSeek-V3, eq. 12-16; GLM-4). A group
 * counts by the sum of its two largest biased scores.
 */
export function sigmoidTopK(options?: Partial<SigmoidTopKOptions>): Gating {
  const { groups, topGroups, renormalize, scale } = withDefaults('sigmoid-top-k', options, {
    groups: 1,
    topGroups: options?.groups ?? 1,
    renormalize: true,
    scale: 1,
  });
  checkWhole('sigmoid-top-k', 'groups', groups, 1);
  checkWhole('sigmoid-top-k', 'topGroups', topGroups, 1);
  checkRange('sigmoid-top-k', { scale }, 0);
  return {
    name: 'sigmoid-top-k',
    options: { groups, topGroups, renormalize, scale },
    route(logits, { topK, selectionBias }) {
      const scores = sigmoid(logits);
      return {
        kind: 'sparse',
        ...routeTopK(logits, {
          k: topK,
          score: 'sigmoid',
          bias: selectionBias,
          renormalize,
          scale,
          groups,
          topGroups,
          groupScore: 'top2-sum',
        }),
        probabilities: div(scores, sum(scores, -1, { keepDims: true })),
        // beyond the group limit no expert is next best
        ...(groups === 1 ? { ranking: () => rankingOf(selectionBias ? scores : logits, selectionBias) } : {}),
        weigh: (expertIds) => weightsAt(scores, expertIds, { renormalize, scale }),
      };
    },
  };
}
