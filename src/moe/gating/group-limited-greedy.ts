import { checkWhole } from '../../core/errors.js';
import { softmax } from '../../core/ops/norm.js';
import { routeTopK } from '../../core/ops/routing.js';
import type { Gating } from './gating.js';
import { checkRange, withDefaults } from './shared/options.js';

export interface GroupLimitedGreedyOptions {
  /** Equal runs of experts: devices. Default 1. */
  groups: number;
  /** Groups that a token may choose from, the best ones. Default all. */
  topGroups: number;
  /** Default false. */
  renormalize: boolean;
  /** Constant factor on the weights. Default 1. */
  scale: number;
}

/**
 * Device-limited routing (DeepSeek-AI 2024, DeepSeek-V2, section 2.1.2): softmax scores, a group counts by its largest, the
 * k best experts of the best groups.
 */
export function groupLimitedGreedy(options?: Partial<GroupLimitedGreedyOptions>): Gating {
  const rule = withDefaults('group-limited-greedy', options, {
    groups: 1,
    topGroups: options?.groups ?? 1,
    renormalize: false,
    scale: 1,
  });
  checkWhole('group-limited-greedy', 'groups', rule.groups, 1);
  checkWhole('group-limited-greedy', 'topGroups', rule.topGroups, 1);
  checkRange('group-limited-greedy', { scale: rule.scale }, 0);
  return {
    name: 'group-limited-greedy',
    options: rule,
    route: (logits, { topK, selectionBias }) => ({
      kind: 'sparse',
      ...routeTopK(logits, {
        k: topK,
        score: 'softmax',
        bias: selectionBias,
        groupScore: 'max',
        ...rule,
      }),
      probabilities: softmax(logits),
    }),
  };
}
