/** Gather, scatter, sort and top-k. Ties go to the lower index; NaN sorts last. */
import { SwitchyardError } from '../errors.js';
import {
  apply,
  apply1,
  checkDType,
  checkInt,
  checkRank,
  checkSize,
  defineOp,
  type GradientRule,
  tensorInput,
} from '../op.js';
import { aroundAxis, checkAxis, type Shape, shapeText, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { cast, equal } from './elementwise.js';
import { iota, reshape } from './shape.js';

const takeRowsOp = defineOp({
  name: 'take_rows',
  attrs: {},
  infer(inputs) {
    const x = tensorInput('take_rows', 'x', inputs[0]);
    const ids = tensorInput('take_rows', 'ids', inputs[1]);
    checkDType('take_rows', 'ids', ids.dtype, 'i32');
    checkRank('take_rows', 'ids', ids.shape, 1);
    if (x.rank < 1) checkRank('take_rows', 'x', x.shape, 1);
    return [{ dtype: x.dtype, shape: [ids.shape[0] as number, ...x.shape.slice(1)] }];
  },
  gradient({ inputs, grads }) {
    const [x, ids] = inputs as [Tensor, Tensor];
    const g = cast(grads[0] as Tensor, 'f32'); // narrow floats are summed in f32
    return [cast(scatterAddRows(g, ids, x.shape[0] as number), x.dtype), null];
  },
  lower(node) {
    const x = node.inputs[0] as Tensor;
    const out = node.outputs[0] as Tensor;
    const inner = sizeOf(x.shape.slice(1));
    return {
      kernel: 'take_rows',
      inputShapes: [[x.shape[0] as number, inner], null],
      outputShapes: [[out.shape[0] as number, inner]],
      attrs: [],
    };
  },
});
/** Rows of x [n, …] by ids i32 [m] → [m, …]; id -1 gives zeros. */
export const takeRows = (x: Tensor, ids: Tensor): Tensor => apply1(takeRowsOp, [x, ids]);

const scatterAddRowsOp = defineOp({
  name: 'scatter_add_rows',
  attrs: { rows: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('scatter_add_rows', 'x', inputs[0]);
    const ids = tensorInput('scatter_add_rows', 'ids', inputs[1]);
    checkDType('scatter_add_rows', 'x', x.dtype, 'f32');
    checkDType('scatter_add_rows', 'ids', ids.dtype, 'i32');
    checkRank('scatter_add_rows', 'ids', ids.shape, 1);
    checkSize('scatter_add_rows', 'rows of x', x.shape[0] ?? -1, ids.shape[0] as number);
    return [{ dtype: 'f32', shape: [attrs.rows as number, ...x.shape.slice(1)] }];
  },
  gradient: ({ inputs, grads }) => [takeRows(grads[0] as Tensor, inputs[1] as Tensor), null],
  lower(node) {
    const x = node.inputs[0] as Tensor;
    const inner = sizeOf(x.shape.slice(1));
    return {
      kernel: 'scatter_add_rows',
      inputShapes: [[x.shape[0] as number, inner], null],
      outputShapes: [[node.attrs.rows as number, inner]],
      attrs: [],
    };
  },
});
/** Zeros [rows, …] with row i of x added at ids[i], in order; id -1 is skipped. */
export const scatterAddRows = (x: Tensor, ids: Tensor, rows: number): Tensor =>
  apply1(scatterAddRowsOp, [x, ids], { rows: checkInt('scatter_add_rows', 'rows', rows, 0, 2 ** 31 - 1) });

const alongShapes = (x: Tensor, ids: Tensor, axis: number): [Shape, Shape] => [
  aroundAxis(x.shape, axis),
  aroundAxis(ids.shape, axis),
];

function checkAlong(where: string, x: Tensor, ids: Tensor, axis: number): void {
  checkDType(where, 'ids', ids.dtype, 'i32');
  checkDType(where, 'x', x.dtype, 'f32');
  if (ids.rank !== x.rank || ids.shape.some((d, i) => i !== axis && d !== x.shape[i])) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[${where}] got ids ${shapeText(ids.shape)} for x ${shapeText(x.shape)}, expected equal sizes off axis ${axis}`,
    );
  }
}

const takeAlongOp = defineOp({
  name: 'take_along',
  attrs: { axis: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('take_along', 'x', inputs[0]);
    const ids = tensorInput('take_along', 'ids', inputs[1]);
    checkAlong('take_along', x, ids, attrs.axis as number);
    return [{ dtype: 'f32', shape: ids.shape }];
  },
  gradient({ inputs, attrs, grads }) {
    const [x, ids] = inputs as [Tensor, Tensor];
    const axis = attrs.axis as number;
    return [scatterAddAlong(grads[0] as Tensor, ids, x.shape[axis] as number, axis), null];
  },
  lower(node) {
    const [x, ids] = node.inputs as [Tensor, Tensor];
    const shapes = alongShapes(x, ids, node.attrs.axis as number);
    return { kernel: 'take_along', inputShapes: shapes, outputShapes: [shapes[1]], attrs: [] };
  },
});
/** Elements of x along one axis by ids (i32, of x's shape but for that axis). */
export const takeAlong = (x: Tensor, ids: Tensor, axis = -1): Tensor =>
  apply1(takeAlongOp, [x, ids], { axis: checkAxis('take_along', axis, x.rank) });

const scatterAddAlongOp = defineOp({
  name: 'scatter_add_along',
  attrs: { axis: 'int', size: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('scatter_add_along', 'x', inputs[0]);
    const ids = tensorInput('scatter_add_along', 'ids', inputs[1]);
    const axis = attrs.axis as number;
    checkAlong('scatter_add_along', x, ids, axis);
    checkSize(
      'scatter_add_along',
      'size of x on the axis',
      x.shape[axis] as number,
      ids.shape[axis] as number,
    );
    return [{ dtype: 'f32', shape: x.shape.map((d, i) => (i === axis ? (attrs.size as number) : d)) }];
  },
  gradient: ({ inputs, attrs, grads }) => [
    takeAlong(grads[0] as Tensor, inputs[1] as Tensor, attrs.axis as number),
    null,
  ],
  lower(node) {
    const axis = node.attrs.axis as number;
    const [x, ids] = node.inputs as [Tensor, Tensor];
    return {
      kernel: 'scatter_add_along',
      inputShapes: alongShapes(x, ids, axis),
      outputShapes: [aroundAxis((node.outputs[0] as Tensor).shape, axis)],
      attrs: [],
    };
  },
});
/** Zeros with `size` on the axis, and x added at ids along it, in order. */
export const scatterAddAlong = (x: Tensor, ids: Tensor, size: number, axis = -1): Tensor =>
  apply1(scatterAddAlongOp, [x, ids], {
    axis: checkAxis('scatter_add_along', axis, x.rank),
    size: checkInt('scatter_add_along', 'size', size, 0, 2 ** 31 - 1),
  });

/** Of ops that give values of the last axis and where they stood. */
const alongIndices: GradientRule = ({ inputs, outputs, grads }) => {
  const x = inputs[0] as Tensor;
  return [grads[0] ? scatterAddAlong(grads[0], outputs[1] as Tensor, x.shape[x.rank - 1] as number) : null];
};

const sortOp = defineOp({
  name: 'sort',
  attrs: { descending: 'int' },
  infer(inputs) {
    const x = tensorInput('sort', 'x', inputs[0]);
    checkDType('sort', 'x', x.dtype, 'f32');
    if (x.rank < 1) checkRank('sort', 'x', x.shape, 1);
    return [
      { dtype: 'f32', shape: x.shape },
      { dtype: 'i32', shape: x.shape },
    ];
  },
  gradient: alongIndices,
  lower(node) {
    const rows = lastAxis((node.inputs[0] as Tensor).shape);
    return {
      kernel: 'sort',
      inputShapes: [rows],
      outputShapes: [rows, rows],
      attrs: [{ type: 'int', value: node.attrs.descending as number }],
    };
  },
});
/** Sorts the last axis, stably. */
export function sort(x: Tensor, { descending = false } = {}): { values: Tensor; indices: Tensor } {
  const [values, indices] = apply(sortOp, [x], { descending: descending ? 1 : 0 }) as [Tensor, Tensor];
  return { values, indices };
}

const topKOp = defineOp({
  name: 'top_k',
  attrs: { k: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('top_k', 'x', inputs[0]);
    checkDType('top_k', 'x', x.dtype, 'f32');
    if (x.rank < 1) checkRank('top_k', 'x', x.shape, 1);
    const k = checkInt('top_k', 'k', attrs.k, 1, x.shape[x.rank - 1] as number);
    const shape = [...x.shape.slice(0, -1), k];
    return [
      { dtype: 'f32', shape },
      { dtype: 'i32', shape },
    ];
  },
  gradient: alongIndices,
  lower(node) {
    const out = lastAxis((node.outputs[0] as Tensor).shape);
    return {
      kernel: 'top_k',
      inputShapes: [lastAxis((node.inputs[0] as Tensor).shape)],
      outputShapes: [out, out],
      attrs: [{ type: 'int', value: node.attrs.k as number }],
    };
  },
});
/** The k largest values of the last axis, falling, and their indices (constant for the gradient). */
export function topK(x: Tensor, k: number): { values: Tensor; indices: Tensor } {
  const [values, indices] = apply(topKOp, [x], { k }) as [Tensor, Tensor];
  return { values, indices };
}

const lastAxis = (shape: Shape): Shape => [sizeOf(shape.slice(0, -1)), shape[shape.length - 1] as number];

/** ids i32 […] → f32 […, size]: 1 at the id; other ids (-1, say) give a row of zeros. */
export function oneHot(ids: Tensor, size: number): Tensor {
  const places = iota([...ids.shape.map(() => 1), size], ids.rank);
  return cast(equal(reshape(ids, [...ids.shape, 1]), places), 'f32');
}
