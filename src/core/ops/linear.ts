/** Products with packed weights. The compiler joins linears of one input into one instruction. */
import { type ComputeMode, computeCode } from '../format.js';
import {
  type Attr,
  apply1,
  checkDType,
  checkRank,
  checkSize,
  defineOp,
  tensorInput,
  weightInput,
} from '../op.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { Weight } from '../weight.js';
import { reshape } from './shape.js';

const computeAttr = (value: Attr | undefined): { type: 'int'; value: Attr }[] => [
  { type: 'int', value: value as Attr },
];

const linearOp = defineOp({
  name: 'linear',
  attrs: { compute: 'int' },
  infer(inputs) {
    const x = tensorInput('linear', 'x', inputs[0]); // [M, K]
    const w = weightInput('linear', 'weight', inputs[1]);
    checkDType('linear', 'x', x.dtype, 'f32');
    checkRank('linear', 'x', x.shape, 2);
    checkSize('linear', 'experts of the weight', w.experts, 1);
    checkSize('linear', 'columns of x', x.shape[1] as number, w.columns);
    return [{ dtype: 'f32', shape: [x.shape[0] as number, w.rows] }];
  },
  gradient: ({ inputs, grads }) => [
    apply1(linearTransposedOp, [grads[0] as Tensor, inputs[1] as Weight]),
    null,
  ],
  cost: ([x, w], [y]) => matrixCost(x as Tensor, w as Weight, (y as { shape: Shape }).shape),
  lower: (node) => ({ kernel: 'linear', attrs: computeAttr(node.attrs.compute) }),
});

const linearTransposedOp = defineOp({
  name: 'linear_transposed',
  attrs: {},
  infer(inputs) {
    const dy = tensorInput('linear_transposed', 'dy', inputs[0]); // [M, N]
    const w = weightInput('linear_transposed', 'weight', inputs[1]);
    checkDType('linear_transposed', 'dy', dy.dtype, 'f32');
    checkRank('linear_transposed', 'dy', dy.shape, 2);
    checkSize('linear_transposed', 'columns of dy', dy.shape[1] as number, w.rows);
    return [{ dtype: 'f32', shape: [dy.shape[0] as number, w.columns] }];
  },
  gradient: ({ inputs, grads }) => [
    apply1(linearOp, [grads[0] as Tensor, inputs[1] as Weight], { compute: 0 }),
    null,
  ],
  cost: ([x, w], [y]) => matrixCost(x as Tensor, w as Weight, (y as { shape: Shape }).shape),
  lower: () => ({ kernel: 'linear_transposed', attrs: [] }),
});

function matrixCost(x: Tensor, w: Weight, y: Shape): { flops: number; bytes: number } {
  return { flops: 2 * (x.shape[0] as number) * w.rows * w.columns, bytes: x.bytes + w.bytes + 4 * sizeOf(y) };
}

/** x […, K] · Wᵀ → […, N] with W packed [N, K]. */
export function linear(x: Tensor, weight: Weight, compute: ComputeMode = 'f32'): Tensor {
  const y = apply1(
    linearOp,
    [reshape(x, [sizeOf(x.shape.slice(0, -1)), x.shape[x.rank - 1] as number]), weight],
    { compute: computeCode(compute) },
  );
  return reshape(y, [...x.shape.slice(0, -1), weight.rows]);
}

/** dy [M, N] · W → [M, K]: the gradient of `linear` for its input. */
export const linearTransposed = (dy: Tensor, weight: Weight): Tensor =>
  apply1(linearTransposedOp, [dy, weight]);

const embeddingOp = defineOp({
  name: 'embedding',
  attrs: {},
  infer(inputs) {
    const ids = tensorInput('embedding', 'ids', inputs[0]);
    const w = weightInput('embedding', 'weight', inputs[1]);
    checkDType('embedding', 'ids', ids.dtype, 'i32');
    checkRank('embedding', 'ids', ids.shape, 1);
    return [{ dtype: 'f32', shape: [ids.shape[0] as number, w.columns] }];
  },
  gradient: () => [null, null],
  cost: ([ids], [y]) => ({
    flops: 0,
    bytes: (ids as Tensor).bytes + 4 * sizeOf((y as { shape: Shape }).shape),
  }),
  lower: () => ({ kernel: 'embedding', attrs: [] }),
});
/** Rows of a packed table [V, D] by ids i32 [N] → [N, D]. */
export const embedding = (ids: Tensor, weight: Weight): Tensor => apply1(embeddingOp, [ids, weight]);

function groupedInputs(name: string, x: Tensor, offsets: Tensor, w: Weight): void {
  checkDType(name, 'x', x.dtype, 'f32');
  checkRank(name, 'x', x.shape, 2);
  checkDType(name, 'expert offsets', offsets.dtype, 'i32');
  checkRank(name, 'expert offsets', offsets.shape, 1);
  checkSize(name, 'expert offsets of length', offsets.shape[0] as number, w.experts + 1);
}

const groupedLinearOp = defineOp({
  name: 'grouped_linear',
  attrs: { compute: 'int' },
  infer(inputs) {
    const x = tensorInput('grouped_linear', 'x', inputs[0]); // [R, K]
    const offsets = tensorInput('grouped_linear', 'expert offsets', inputs[1]); // [E+1]
    const w = weightInput('grouped_linear', 'weight', inputs[2]);
    groupedInputs('grouped_linear', x, offsets, w);
    checkSize('grouped_linear', 'columns of x', x.shape[1] as number, w.columns);
    return [{ dtype: 'f32', shape: [x.shape[0] as number, w.rows] }];
  },
  gradient: ({ inputs, grads }) => [
    apply1(groupedLinearTransposedOp, [grads[0] as Tensor, inputs[1] as Tensor, inputs[2] as Weight]),
    null,
    null,
  ],
  cost: ([x, , w], [y]) => matrixCost(x as Tensor, w as Weight, (y as { shape: Shape }).shape),
  lower: (node) => ({ kernel: 'grouped_linear', attrs: computeAttr(node.attrs.compute) }),
});

const groupedLinearTransposedOp = defineOp({
  name: 'grouped_linear_transposed',
  attrs: {},
  infer(inputs) {
    const dy = tensorInput('grouped_linear_transposed', 'dy', inputs[0]); // [R, N]
    const offsets = tensorInput('grouped_linear_transposed', 'expert offsets', inputs[1]);
    const w = weightInput('grouped_linear_transposed', 'weight', inputs[2]);
    groupedInputs('grouped_linear_transposed', dy, offsets, w);
    checkSize('grouped_linear_transposed', 'columns of dy', dy.shape[1] as number, w.rows);
    return [{ dtype: 'f32', shape: [dy.shape[0] as number, w.columns] }];
  },
  gradient: ({ inputs, grads }) => [
    apply1(groupedLinearOp, [grads[0] as Tensor, inputs[1] as Tensor, inputs[2] as Weight], { compute: 0 }),
    null,
    null,
  ],
  cost: ([x, , w], [y]) => matrixCost(x as Tensor, w as Weight, (y as { shape: Shape }).shape),
  lower: () => ({ kernel: 'grouped_linear_transposed', attrs: [] }),
});

/** Rows of x [R, K], grouped by expert (offsets i32 [E+1]), each times its expert's packed matrix → [R, N]. */
export const groupedLinear = (
  x: Tensor,
  offsets: Tensor,
  weight: Weight,
  compute: ComputeMode = 'f32',
): Tensor => apply1(groupedLinearOp, [x, offsets, weight], { compute: computeCode(compute) });
