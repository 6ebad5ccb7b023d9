/** Products of rows that are grouped by expert with ordinary tensors: what training stands on. */
import { apply1, checkDType, checkRank, checkSize, defineOp, tensorInput } from '../op.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { checkIndex } from './moe-checks.js';

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
