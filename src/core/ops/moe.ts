/** The MoE set: route, plan, grouped experts, combine. */
import { SwitchyardError } from '../errors.js';
import { type ComputeMode, computeCode } from '../format.js';
import {
  apply,
  apply1,
  checkDType,
  checkInt,
  checkRank,
  checkSize,
  defineOp,
  type OpInput,
  tensorInput,
  weightInput,
} from '../op.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { Weight } from '../weight.js';
import { ACTIVATION_NAMES, ACTIVATIONS, type Activation, add, div, mul, sigmoid } from './elementwise.js';
import { scatterAddRows, takeAlong, takeRows, topK } from './indexing.js';
import { groupedLinear } from './linear.js';
import { softmax } from './norm.js';
import { sum } from './reduce.js';
import { reshape } from './shape.js';

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
  attrs: { experts: 'int' },
  infer(inputs, attrs) {
    const ids = tensorInput('moe_plan', 'expert ids', inputs[0]); // [N, K]
    checkDType('moe_plan', 'expert ids', ids.dtype, 'i32');
    checkRank('moe_plan', 'expert ids', ids.shape, 2);
    const experts = checkInt('moe_plan', 'experts', attrs.experts, 1, 65536);
    return [
      { dtype: 'i32', shape: [experts + 1] },
      { dtype: 'i32', shape: [ids.size] },
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
  /** i32 [R], R = N·K: the token of a row; -1 past the last row. */
  rowToken: Tensor;
  /** i32 [N, K]: the row of a token's choice; -1 where it was dropped. */
  slotRow: Tensor;
}
/** Stable counting sort of the choices i32 [N, K] by expert; -1 drops a choice. */
export function moePlan(expertIds: Tensor, experts: number): DispatchPlan {
  const [expertOffsets, rowToken, slotRow] = apply(planOp, [expertIds], { experts }) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  return { expertOffsets, rowToken, slotRow };
}

/** Combine weights [N, K] beside the slots of the same tokens. */
function checkWeights(name: string, weights: Tensor, slotRow: Tensor): void {
  checkDType(name, 'combine weights', weights.dtype, 'f32');
  checkRank(name, 'combine weights', weights.shape, 2);
  checkSize(name, 'rows of combine weights', weights.shape[0] as number, slotRow.shape[0] as number);
  checkSize(name, 'combine weights a token', weights.shape[1] as number, slotRow.shape[1] as number);
}
function checkIndex(name: string, what: string, t: Tensor, rank: number): void {
  checkDType(name, what, t.dtype, 'i32');
  checkRank(name, what, t.shape, rank);
}

const combineOp = defineOp({
  name: 'moe_combine',
  attrs: {},
  infer(inputs) {
    const rows = tensorInput('moe_combine', 'rows', inputs[0]); // [R, D]
    const slotRow = tensorInput('moe_combine', 'slot row', inputs[1]); // [N, K]
    const weights = tensorInput('moe_combine', 'combine weights', inputs[2]); // [N, K]
    checkDType('moe_combine', 'rows', rows.dtype, 'f32');
    checkRank('moe_combine', 'rows', rows.shape, 2);
    checkDType('moe_combine', 'slot row', slotRow.dtype, 'i32');
    checkRank('moe_combine', 'slot row', slotRow.shape, 2);
    checkWeights('moe_combine', weights, slotRow);
    return [{ dtype: 'f32', shape: [slotRow.shape[0] as number, rows.shape[1] as number] }];
  },
  gradient({ inputs, grads }) {
    const [rows, slotRow, weights] = inputs as [Tensor, Tensor, Tensor];
    const g = grads[0] as Tensor; // [N, D]
    const [n, k] = slotRow.shape as [number, number];
    const d = rows.shape[1] as number;
    // every row belongs to at most one slot, so scattering the scaled gradients back is exact
    const spread = mul(reshape(g, [n, 1, d]), reshape(weights, [n, k, 1])); // [N, K, D]
    const perSlot = reshape(spread, [n * k, d]);
    return [
      scatterAddRows(perSlot, reshape(slotRow, [n * k]), rows.shape[0] as number),
      null,
      apply1(combineGradOp, [rows, slotRow, g]),
    ];
  },
  twin(inputs) {
    const [rows, slotRow, weights] = inputs as [Tensor, Tensor, Tensor];
    const [n, k] = slotRow.shape as [number, number];
    const taken = reshape(takeRows(rows, reshape(slotRow, [n * k])), [n, k, rows.shape[1] as number]);
    return [sum(mul(taken, reshape(weights, [n, k, 1])), 1)];
  },
  lower: () => ({ kernel: 'moe_combine', attrs: [] }),
});
/** y[n] = Σ_k combineWeights[n, k] · rows[slotRow[n, k]] → [N, D]; dropped slots add nothing. */
export const moeCombine = (rows: Tensor, slotRow: Tensor, combineWeights: Tensor): Tensor =>
  apply1(combineOp, [rows, slotRow, combineWeights]);

const combineGradOp = defineOp({
  name: 'moe_combine_grad',
  attrs: {},
  infer(inputs) {
    const rows = tensorInput('moe_combine_grad', 'rows', inputs[0]); // [R, D]
    const slotRow = tensorInput('moe_combine_grad', 'slot row', inputs[1]); // [N, K]
    const dy = tensorInput('moe_combine_grad', 'dy', inputs[2]); // [N, D]
    checkDType('moe_combine_grad', 'rows', rows.dtype, 'f32');
    checkRank('moe_combine_grad', 'rows', rows.shape, 2);
    checkIndex('moe_combine_grad', 'slot row', slotRow, 2);
    checkDType('moe_combine_grad', 'dy', dy.dtype, 'f32');
    checkRank('moe_combine_grad', 'dy', dy.shape, 2);
    checkSize('moe_combine_grad', 'rows of dy', dy.shape[0] as number, slotRow.shape[0] as number);
    checkSize('moe_combine_grad', 'columns of dy', dy.shape[1] as number, rows.shape[1] as number);
    return [{ dtype: 'f32', shape: slotRow.shape }];
  },
  gradient: 'twin',
  twin(inputs) {
    const [rows, slotRow, dy] = inputs as [Tensor, Tensor, Tensor];
    const [n, k] = slotRow.shape as [number, number];
    const taken = reshape(takeRows(rows, reshape(slotRow, [n * k])), [n, k, rows.shape[1] as number]);
    return [sum(mul(taken, reshape(dy, [n, 1, rows.shape[1] as number])), -1)];
  },
  lower: () => ({ kernel: 'moe_combine_grad', attrs: [] }),
});

const groupedMatmulOp = defineOp({
  name: 'grouped_matmul',
  attrs: { transpose: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('grouped_matmul', 'x', inputs[0]); // [R, K]
    const w = tensorInput('grouped_matmul', 'w', inputs[1]); // [E, N, K] or, transposed, [E, K, N]
    const offsets = tensorInput('grouped_matmul', 'expert offsets', inputs[2]);
    checkDType('grouped_matmul', 'x', x.dtype, 'f32');
    checkRank('grouped_matmul', 'x', x.shape, 2);
    checkDType('grouped_matmul', 'w', w.dtype, 'f32');
    checkRank('grouped_matmul', 'w', w.shape, 3);
    checkIndex('grouped_matmul', 'expert offsets', offsets, 1);
    checkSize('grouped_matmul', 'expert offsets of length', offsets.size, (w.shape[0] as number) + 1);
    const [n, k] = attrs.transpose ? [w.shape[2], w.shape[1]] : [w.shape[1], w.shape[2]];
    checkSize('grouped_matmul', 'columns of x', x.shape[1] as number, k as number);
    return [{ dtype: 'f32', shape: [x.shape[0] as number, n as number] }];
  },
  gradient({ inputs, attrs, grads }) {
    const [x, w, offsets] = inputs as [Tensor, Tensor, Tensor];
    const g = grads[0] as Tensor;
    const dw = attrs.transpose ? groupedMatmulGrad(x, g, offsets) : groupedMatmulGrad(g, x, offsets);
    return [groupedMatmul(g, w, offsets, { transpose: !attrs.transpose }), dw, null];
  },
  cost: ([x, w], [y]) => groupedCost(x as Tensor, w as Tensor, (y as { shape: Shape }).shape),
  lower: (node) => ({
    kernel: 'grouped_matmul',
    attrs: [{ type: 'int', value: node.attrs.transpose as number }],
  }),
});
function groupedCost(x: Tensor, w: Tensor, y: Shape): { flops: number; bytes: number } {
  return {
    flops: 2 * (x.shape[0] as number) * (w.shape[1] as number) * (w.shape[2] as number),
    bytes: x.bytes + w.bytes + 4 * sizeOf(y),
  };
}
/** Rows of x [R, K], grouped by expert, each times its expert's matrix of w [E, N, K] (or [E, K, N] if `transpose`) → [R, N]. */
export const groupedMatmul = (
  x: Tensor,
  w: Tensor,
  expertOffsets: Tensor,
  { transpose: t = false } = {},
): Tensor => apply1(groupedMatmulOp, [x, w, expertOffsets], { transpose: t ? 1 : 0 });

const groupedMatmulGradOp = defineOp({
  name: 'grouped_matmul_grad',
  attrs: {},
  infer(inputs) {
    const dy = tensorInput('grouped_matmul_grad', 'dy', inputs[0]); // [R, N]
    const x = tensorInput('grouped_matmul_grad', 'x', inputs[1]); // [R, K]
    const offsets = tensorInput('grouped_matmul_grad', 'expert offsets', inputs[2]);
    checkDType('grouped_matmul_grad', 'dy', dy.dtype, 'f32');
    checkDType('grouped_matmul_grad', 'x', x.dtype, 'f32');
    checkIndex('grouped_matmul_grad', 'expert offsets', offsets, 1);
    if (offsets.size < 1) checkSize('grouped_matmul_grad', 'expert offsets of length', offsets.size, 1);
    checkRank('grouped_matmul_grad', 'dy', dy.shape, 2);
    checkRank('grouped_matmul_grad', 'x', x.shape, 2);
    checkSize('grouped_matmul_grad', 'rows of x', x.shape[0] as number, dy.shape[0] as number);
    return [{ dtype: 'f32', shape: [offsets.size - 1, dy.shape[1] as number, x.shape[1] as number] }];
  },
  gradient({ inputs, grads }) {
    const [dy, x, offsets] = inputs as [Tensor, Tensor, Tensor];
    const g = grads[0] as Tensor; // [E, N, K]
    return [groupedMatmul(x, g, offsets), groupedMatmul(dy, g, offsets, { transpose: true }), null];
  },
  cost: ([dy, x], [w]) => ({
    flops: 2 * (dy as Tensor).size * ((x as Tensor).shape[1] as number),
    bytes: (dy as Tensor).bytes + (x as Tensor).bytes + 4 * sizeOf((w as { shape: Shape }).shape),
  }),
  lower: () => ({ kernel: 'grouped_matmul_grad', attrs: [] }),
});
/** dw[e] = Σ over rows r of expert e of dy[r] xᵀ[r] → [E, N, K]. */
export const groupedMatmulGrad = (dy: Tensor, x: Tensor, expertOffsets: Tensor): Tensor =>
  apply1(groupedMatmulGradOp, [dy, x, expertOffsets]);

const expertsOp = defineOp({
  name: 'moe_experts',
  attrs: { activation: 'int', compute: 'int' },
  infer(inputs) {
    const x = tensorInput('moe_experts', 'x', inputs[0]); // [N, D]
    const [offsets, rowToken, slotRow, weights] = [
      'expert offsets',
      'row token',
      'slot row',
      'combine weights',
    ].map((what, i) => tensorInput('moe_experts', what, inputs[i + 1])) as [Tensor, Tensor, Tensor, Tensor];
    const up = weightInput('moe_experts', 'up weight', inputs[6]);
    const down = weightInput('moe_experts', 'down weight', inputs[7]);
    checkDType('moe_experts', 'x', x.dtype, 'f32');
    checkRank('moe_experts', 'x', x.shape, 2);
    checkIndex('moe_experts', 'expert offsets', offsets, 1);
    checkSize('moe_experts', 'expert offsets of length', offsets.shape[0] as number, up.experts + 1);
    checkIndex('moe_experts', 'slot row', slotRow, 2);
    checkSize('moe_experts', 'rows of slot row', slotRow.shape[0] as number, x.shape[0] as number);
    checkIndex('moe_experts', 'row token', rowToken, 1);
    checkSize('moe_experts', 'row token of length', rowToken.shape[0] as number, slotRow.size);
    checkWeights('moe_experts', weights, slotRow);
    checkSize('moe_experts', 'columns of x', x.shape[1] as number, up.columns);
    checkSize('moe_experts', 'columns of the down weight', down.columns, up.rows);
    checkSize('moe_experts', 'experts of the down weight', down.experts, up.experts);
    if (inputs[5]) {
      const gate = weightInput('moe_experts', 'gate weight', inputs[5]);
      const fits = gate.experts === up.experts && gate.rows === up.rows && gate.columns === up.columns;
      if (!fits)
        throw new SwitchyardError(
          'ERR_SHAPE',
          `[moe_experts] got gate ${gate} beside up ${up}, expected equal sizes`,
        );
    }
    return [{ dtype: 'f32', shape: [x.shape[0] as number, down.rows] }];
  },
  gradient: 'twin',
  cost(inputs, [y]) {
    const rows = (inputs[3] as Tensor).size; // N·K
    const weights = inputs.slice(5).filter((w): w is Weight => w !== null) as Weight[];
    const flops = weights.reduce((total, w) => total + 2 * rows * w.rows * w.columns, 0);
    const touched = weights.reduce((total, w) => total + w.bytes * Math.min(1, rows / w.experts), 0);
    return {
      flops,
      bytes: touched + (inputs[0] as Tensor).bytes + 4 * sizeOf((y as { shape: Shape }).shape),
    };
  },
  twin(inputs, attrs) {
    const [x, expertOffsets, rowToken, slotRow, weights] = inputs.slice(0, 5) as Tensor[] as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    const [gate, up, down] = inputs.slice(5) as [Weight | null, Weight, Weight];
    const compute = (['f32', 'bf16', 'int8'] as const)[attrs.compute as number] as ComputeMode;
    const act = ACTIVATIONS[ACTIVATION_NAMES[attrs.activation as number] as Activation];
    const rows = takeRows(x, rowToken); // [R, D]
    const lifted = groupedLinear(rows, expertOffsets, up, compute); // [R, F]
    const hidden = gate ? mul(act(groupedLinear(rows, expertOffsets, gate, compute)), lifted) : act(lifted);
    return [moeCombine(groupedLinear(hidden, expertOffsets, down, compute), slotRow, weights)];
  },
  lower: (node) => ({
    kernel: 'moe_experts',
    attrs: [
      { type: 'int', value: node.attrs.activation as number },
      { type: 'int', value: node.attrs.compute as number },
    ],
  }),
});

export interface ExpertWeights {
  /** E × [F, D]; null for experts without a gate. */
  gate: Weight | null;
  /** E × [F, D] */
  up: Weight;
  /** E × [D, F] */
  down: Weight;
}
/** The experts of a sparse layer on packed weights: dispatch, gate and up, activation, down, combine → [N, D]. */
export function moeExperts(
  x: Tensor,
  plan: DispatchPlan,
  combineWeights: Tensor,
  experts: ExpertWeights,
  { activation = 'silu' as Activation, compute = 'f32' as ComputeMode } = {},
): Tensor {
  const inputs: OpInput[] = [
    x,
    plan.expertOffsets,
    plan.rowToken,
    plan.slotRow,
    combineWeights,
    experts.gate,
    experts.up,
    experts.down,
  ];
  return apply1(expertsOp, inputs, {
    activation: ACTIVATION_NAMES.indexOf(activation),
    compute: computeCode(compute),
  });
}
