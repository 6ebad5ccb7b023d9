/** Back from the rows of experts to tokens: the weighted sum of each token's rows, and its gradients. */
import { apply1, checkDType, checkRank, checkSize, defineOp, tensorInput } from '../op.js';
import type { Tensor } from '../tensor.js';
import { mul } from './elementwise.js';
import { scatterAddRows, takeRows } from './indexing.js';
import { checkIndex, checkWeights } from './moe-checks.js';
import { sum } from './reduce.js';
import { broadcastTo, reshape } from './shape.js';

const combineOp = defineOp({
  name: 'moe_combine',
  attrs: {},
  infer(inputs) {
    const rows = tensorInput('moe_combine', 'rows', inputs[0]); // [R, D]
    const slotRow = tensorInput('moe_combine', 'slot row', inputs[1]); // [N, K]
    const weights = inputs[2] ? tensorInput('moe_combine', 'combine weights', inputs[2]) : null; // [N, K]
    checkDType('moe_combine', 'rows', rows.dtype, 'f32');
    checkRank('moe_combine', 'rows', rows.shape, 2);
    checkDType('moe_combine', 'slot row', slotRow.dtype, 'i32');
    checkRank('moe_combine', 'slot row', slotRow.shape, 2);
    if (weights) checkWeights('moe_combine', weights, slotRow);
    return [{ dtype: 'f32', shape: [slotRow.shape[0] as number, rows.shape[1] as number] }];
  },
  gradient({ inputs, grads }) {
    const [rows, slotRow, weights] = inputs as [Tensor, Tensor, Tensor];
    const g = grads[0] as Tensor; // [N, D]
    const [n, k] = slotRow.shape as [number, number];
    const d = rows.shape[1] as number;
    // every row belongs to at most one slot, so scattering the scaled gradients back is exact
    const byToken = reshape(g, [n, 1, d]);
    const spread = weights ? mul(byToken, reshape(weights, [n, k, 1])) : broadcastTo(byToken, [n, k, d]);
    const perSlot = reshape(spread, [n * k, d]);
    return [
      scatterAddRows(perSlot, reshape(slotRow, [n * k]), rows.shape[0] as number),
      null,
      weights ? apply1(combineGradOp, [rows, slotRow, g]) : null,
    ];
  },
  twin(inputs) {
    const [rows, slotRow, weights] = inputs as [Tensor, Tensor, Tensor | null];
    const [n, k] = slotRow.shape as [number, number];
    const taken = reshape(takeRows(rows, reshape(slotRow, [n * k])), [n, k, rows.shape[1] as number]);
    return [sum(weights ? mul(taken, reshape(weights, [n, k, 1])) : taken, 1)];
  },
  lower: () => ({ kernel: 'moe_combine', attrs: [] }),
});
/** y[n] = Σ_k combineWeights[n, k] · rows[slotRow[n, k]] → [N, D]; dropped slots add nothing. Without weights: all ones. */
export const moeCombine = (rows: Tensor, slotRow: Tensor, combineWeights: Tensor | null): Tensor =>
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
