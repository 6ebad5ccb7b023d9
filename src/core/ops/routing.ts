/** Routing: router logits to a choice of experts, and the choice to a dispatch plan. */
import { SwitchyardError } from '../errors.js';
import {
  type Attrs,
  apply,
  checkDType,
  checkInt,
  checkRank,
  checkSize,
  defineOp,
  tensorInput,
} from '../op.js';
import type { Tensor } from '../tensor.js';
import { add, div, greater, mul, sigmoid, where } from './elementwise.js';
import { oneHot, takeAlong, topK } from './indexing.js';
import { codeOf } from './moe-checks.js';
import { softmax } from './norm.js';
import { sum } from './reduce.js';
import { reshape } from './shape.js';

/** How router logits become scores. */
export const SCORES = ['softmax', 'sigmoid', 'softmax-of-chosen'] as const;
export type Score = (typeof SCORES)[number];
/** What a group of experts counts for: its largest selection score, or the sum of its two largest. */
export const GROUP_SCORES = ['max', 'top2-sum'] as const;
export type GroupScore = (typeof GROUP_SCORES)[number];
/** Keeps the sum of sigmoid scores from 0, as DeepSeek-V3's code does. */
const SIGMOID_SUM_EPS = 1e-20;

const routeOp = defineOp({
  name: 'route_top_k',
  attrs: {
    k: 'int',
    score: 'int',
    renormalize: 'int',
    scale: 'float',
    groups: 'int',
    topGroups: 'int',
    groupScore: 'int',
  },
  infer(inputs, attrs) {
    const logits = tensorInput('route_top_k', 'logits', inputs[0]); // [N, E]
    checkDType('route_top_k', 'logits', logits.dtype, 'f32');
    checkRank('route_top_k', 'logits', logits.shape, 2);
    const experts = logits.shape[1] as number;
    const k = checkInt('route_top_k', 'k', attrs.k, 1, experts);
    checkInt('route_top_k', 'score', attrs.score, 0, SCORES.length - 1);
    const groups = checkInt('route_top_k', 'groups', attrs.groups, 1, experts);
    if (experts % groups !== 0)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[route_top_k] got ${groups} groups of ${experts} experts, expected groups of equal size`,
      );
    const topGroups = checkInt('route_top_k', 'topGroups', attrs.topGroups, 1, groups);
    checkInt('route_top_k', 'k', k, 1, topGroups * (experts / groups));
    checkInt('route_top_k', 'groupScore', attrs.groupScore, 0, GROUP_SCORES.length - 1);
    if (inputs[1]) {
      const bias = tensorInput('route_top_k', 'bias', inputs[1]);
      checkDType('route_top_k', 'bias', bias.dtype, 'f32');
      checkRank('route_top_k', 'bias', bias.shape, 1);
      checkSize('route_top_k', 'bias of length', bias.shape[0] as number, experts);
    }
    const shape = [logits.shape[0] as number, k];
    return [
      { dtype: 'i32', shape },
      { dtype: 'f32', shape },
    ];
  },
  // The choice is constant for the gradient; the weights are recomputed from it by small ops.
  gradient: 'twin',
  twin([input, bias], attrs) {
    const logits = input as Tensor;
    const score = SCORES[attrs.score as number];
    const scores = score === 'sigmoid' ? sigmoid(logits) : score === 'softmax' ? softmax(logits) : logits;
    const selection = bias ? add(scores, bias as Tensor) : scores; // [N, E]
    const { indices } = topK(inTopGroups(selection, attrs), attrs.k as number);
    let weights = takeAlong(scores, indices);
    if (score === 'softmax-of-chosen') weights = softmax(weights);
    if (attrs.renormalize) {
      const total = sum(weights, -1, { keepDims: true });
      weights = div(weights, score === 'sigmoid' ? add(total, SIGMOID_SUM_EPS) : total);
    }
    return [indices, mul(weights, attrs.scale as number)];
  },
  lower: (node) => ({
    kernel: 'route_top_k',
    attrs: [
      { type: 'int', value: node.attrs.k as number },
      { type: 'int', value: node.attrs.score as number },
      { type: 'int', value: node.attrs.renormalize as number },
      { type: 'float', value: node.attrs.scale as number },
      { type: 'int', value: node.attrs.groups as number },
      { type: 'int', value: node.attrs.topGroups as number },
      { type: 'int', value: node.attrs.groupScore as number },
    ],
  }),
});

/** Selection scores [N, E] with NaN, which top-k ranks below -infinity, outside the best groups. */
function inTopGroups(selection: Tensor, attrs: Attrs): Tensor {
  const [groups, topGroups] = [attrs.groups as number, attrs.topGroups as number];
  if (topGroups === groups) return selection;
  const [n, experts] = selection.shape as [number, number];
  const size = experts / groups;
  const grouped = reshape(selection, [n, groups, size]);
  const best = Math.min(size, GROUP_SCORES[attrs.groupScore as number] === 'max' ? 1 : 2);
  const { indices } = topK(sum(topK(grouped, best).values, -1), topGroups); // [N, topGroups]
  const chosen = greater(sum(oneHot(indices, groups), 1), 0); // [N, groups]
  return reshape(where(reshape(chosen, [n, groups, 1]), grouped, Number.NaN), [n, experts]);
}

export interface RouteOptions {
  k: number;
  /** Default 'softmax'. */
  score?: Score;
  /** Divide the k weights by their sum. Default false. */
  renormalize?: boolean;
  /** Constant factor on the weights. Default 1. */
  scale?: number;
  /** [E], added to the scores for the choice only. */
  bias?: Tensor | null;
  /** Consecutive groups of experts of equal size. Default 1. */
  groups?: number;
  /** Experts are chosen from the best groups only (ties to the lower group). Default: from all. */
  topGroups?: number;
  /** Default 'max' (DeepSeek-V2, arXiv 2405.04434, 2.1.2); 'top2-sum': DeepSeek-V3, arXiv 2412.19437. */
  groupScore?: GroupScore;
}
/** The k best experts of each token: ids i32 [N, K] by falling score (ties to the lower id), weights [N, K]. */
export function routeTopK(
  logits: Tensor,
  {
    k,
    score = 'softmax',
    renormalize = false,
    scale = 1,
    bias = null,
    groups = 1,
    topGroups = groups,
    groupScore = 'max',
  }: RouteOptions,
): { expertIds: Tensor; combineWeights: Tensor } {
  const attrs = {
    k,
    score: codeOf('route_top_k', 'score', score, SCORES),
    renormalize: renormalize ? 1 : 0,
    scale,
    groups,
    topGroups,
    groupScore: codeOf('route_top_k', 'groupScore', groupScore, GROUP_SCORES),
  };
  const [expertIds, combineWeights] = apply(routeOp, [logits, bias], attrs) as [Tensor, Tensor];
  return { expertIds, combineWeights };
}

const planOp = defineOp({
  name: 'moe_plan',
  attrs: { experts: 'int', rows: 'int' },
  infer(inputs, attrs) {
    const ids = tensorInput('moe_plan', 'expert ids', inputs[0]); // [N, K]
    checkDType('moe_plan', 'expert ids', ids.dtype, 'i32');
    checkRank('moe_plan', 'expert ids', ids.shape, 2);
    const experts = checkInt('moe_plan', 'experts', attrs.experts, 1, 65536);
    const rows = checkInt('moe_plan', 'rows', attrs.rows, 0, 2 ** 31 - 1);
    return [
      { dtype: 'i32', shape: [experts + 1] },
      { dtype: 'i32', shape: [rows] },
      { dtype: 'i32', shape: ids.shape },
    ];
  },
  gradient: 'nondifferentiable',
  lower: () => ({ kernel: 'moe_plan', attrs: [] }),
});

/** Who goes where. Rows are sorted by expert, within an expert by token. */
export interface DispatchPlan {
  /** i32 [E+1]: rows of expert e are expertOffsets[e] … expertOffsets[e+1] - 1. */
  expertOffsets: Tensor;
  /** i32 [R], R the most rows the plan may hold: the token of a row; -1 past the last row. */
  rowToken: Tensor;
  /** i32 [N, K]: the row of a token's choice; -1 where it was dropped. */
  slotRow: Tensor;
}
export interface PlanOptions {
  /** R, the most choices that are not dropped; more are an error at run time. Default N·K. */
  rows?: number;
}
/** Stable counting sort of the choices i32 [N, K] by expert; -1 drops a choice. */
export function moePlan(
  expertIds: Tensor,
  experts: number,
  { rows = expertIds.size }: PlanOptions = {},
): DispatchPlan {
  const [expertOffsets, rowToken, slotRow] = apply(planOp, [expertIds], { experts, rows }) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  return { expertOffsets, rowToken, slotRow };
}
