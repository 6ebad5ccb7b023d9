/** Routing: router logits to a choice of experts, and the choice to a dispatch plan. */
import { apply, checkDType, checkInt, checkRank, checkSize, defineOp, tensorInput } from '../op.js';
import type { Tensor } from '../tensor.js';
import { add, div, mul, sigmoid } from './elementwise.js';
import { takeAlong, topK } from './indexing.js';
import { softmax } from './norm.js';
import { sum } from './reduce.js';

/** How router logits become scores. */
export const SCORES = ['softmax', 'sigmoid', 'softmax-of-chosen'] as const;
export type Score = (typeof SCORES)[number];
/** Keeps the sum of sigmoid scores from 0, as DeepSeek-V3's code does. */
const SIGMOID_SUM_EPS = 1e-20;

const routeOp = defineOp({
  name: 'route_top_k',
  attrs: { k: 'int', score: 'int', renormalize: 'int', scale: 'float' },
  infer(inputs, attrs) {
    const logits = tensorInput('route_top_k', 'logits', inputs[0]); // [N, E]
    checkDType('route_top_k', 'logits', logits.dtype, 'f32');
    checkRank('route_top_k', 'logits', logits.shape, 2);
    const k = checkInt('route_top_k', 'k', attrs.k, 1, logits.shape[1] as number);
    if (inputs[1]) {
      const bias = tensorInput('route_top_k', 'bias', inputs[1]);
      checkDType('route_top_k', 'bias', bias.dtype, 'f32');
      checkRank('route_top_k', 'bias', bias.shape, 1);
      checkSize('route_top_k', 'bias of length', bias.shape[0] as number, logits.shape[1] as number);
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
    const { indices } = topK(bias ? add(scores, bias as Tensor) : scores, attrs.k as number);
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
    ],
  }),
});

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
}
/** The k best experts of each token: ids i32 [N, K] by falling score (ties to the lower id), weights [N, K]. */
export function routeTopK(
  logits: Tensor,
  { k, score = 'softmax', renormalize = false, scale = 1, bias = null }: RouteOptions,
): { expertIds: Tensor; combineWeights: Tensor } {
  const attrs = { k, score: SCORES.indexOf(score), renormalize: renormalize ? 1 : 0, scale };
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
