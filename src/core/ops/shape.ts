/** Ops that move elements without arithmetic. */
import { SwitchyardError } from '../errors.js';
import { type Attr, apply1, defineOp, type OpInput, tensorInput } from '../op.js';
import {
  aroundAxis,
  checkAxis,
  checkShape,
  type Shape,
  sameShape,
  shapeText,
  sizeOf,
  stridesOf,
} from '../shape.js';
import type { Tensor } from '../tensor.js';

const reshapeOp = defineOp({
  name: 'reshape',
  attrs: { shape: 'ints' },
  infer(inputs, attrs) {
    const x = tensorInput('reshape', 'x', inputs[0]);
    const shape = attrs.shape as Shape;
    if (sizeOf(shape) !== x.size) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[reshape] got shape ${shapeText(shape)} for ${x.size} elements of ${shapeText(x.shape)}, expected the same count`,
      );
    }
    return [{ dtype: x.dtype, shape }];
  },
  gradient: ({ inputs, grads }) => [reshape(grads[0] as Tensor, (inputs[0] as Tensor).shape)],
  view: true,
});
/** The same elements under another shape; one size may be -1. Costs nothing. */
export function reshape(x: Tensor, shape: Shape): Tensor {
  const open = shape.indexOf(-1);
  const known = sizeOf(shape.filter((_, i) => i !== open));
  const out = open < 0 ? [...shape] : shape.map((d, i) => (i === open ? (known ? x.size / known : 0) : d));
  checkShape('reshape', out);
  return sameShape(out, x.shape) ? x : apply1(reshapeOp, [x], { shape: out });
}

const identityOp = defineOp({
  name: 'identity',
  attrs: {},
  infer(inputs) {
    const x = tensorInput('identity', 'x', inputs[0]);
    return [{ dtype: x.dtype, shape: x.shape }];
  },
  gradient: ({ grads }) => [grads[0] as Tensor],
  view: true,
});
/** The same tensor as a new node: a place for a gradient of its own. */
export const identity = (x: Tensor): Tensor => apply1(identityOp, [x]);

const stridedAttrs = (
  strides: readonly number[],
  offset: number,
): { type: 'ints' | 'int'; value: Attr }[] => [
  { type: 'ints', value: strides },
  { type: 'int', value: offset },
];

const transposeOp = defineOp({
  name: 'transpose',
  attrs: { order: 'ints' },
  infer(inputs, attrs) {
    const x = tensorInput('transpose', 'x', inputs[0]);
    const order = attrs.order as number[];
    if (order.length !== x.rank || x.shape.some((_, axis) => !order.includes(axis))) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[transpose] got order [${order.join(', ')}], expected each of ${x.rank} axes once`,
      );
    }
    return [{ dtype: x.dtype, shape: order.map((a) => x.shape[a] as number) }];
  },
  gradient({ attrs, grads }) {
    const order = attrs.order as number[];
    return [
      transpose(
        grads[0] as Tensor,
        order.map((_, i) => order.indexOf(i)),
      ),
    ];
  },
  lower(node) {
    const strides = stridesOf((node.inputs[0] as Tensor).shape);
    return {
      kernel: 'strided_copy',
      attrs: stridedAttrs(
        (node.attrs.order as number[]).map((a) => strides[a] as number),
        0,
      ),
    };
  },
});
/** Axis i of the result is axis order[i] of x. Default: the axes reversed. */
export function transpose(
  x: Tensor,
  order: readonly number[] = x.shape.map((_, i) => x.rank - 1 - i),
): Tensor {
  const axes = order.map((a) => checkAxis('transpose', a, x.rank));
  const same = axes.length === x.rank && axes.every((a, i) => a === i);
  return same ? x : apply1(transposeOp, [x], { order: axes });
}

const broadcastOp = defineOp({
  name: 'broadcast_to',
  attrs: { shape: 'ints' },
  infer(inputs, attrs) {
    const x = tensorInput('broadcast_to', 'x', inputs[0]);
    const shape = attrs.shape as Shape;
    const lead = shape.length - x.rank;
    if (lead < 0 || x.shape.some((d, i) => d !== 1 && d !== shape[i + lead])) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[broadcast_to] got ${shapeText(x.shape)}, expected a shape that broadcasts to ${shapeText(shape)}`,
      );
    }
    return [{ dtype: x.dtype, shape }];
  },
  gradient: ({ grads }) => [grads[0] as Tensor],
  lower(node) {
    const x = node.inputs[0] as Tensor;
    const shape = node.attrs.shape as Shape;
    const strides = stridesOf(x.shape);
    const lead = shape.length - x.rank;
    const spread = shape.map((_, i) =>
      i < lead || x.shape[i - lead] === 1 ? 0 : (strides[i - lead] as number),
    );
    return { kernel: 'strided_copy', attrs: stridedAttrs(spread, 0) };
  },
});
/** Repeats axes of size 1, and new leading axes, up to `shape`. */
export function broadcastTo(x: Tensor, shape: Shape): Tensor {
  if (sameShape(x.shape, shape)) return x;
  checkShape('broadcast_to', shape);
  return apply1(broadcastOp, [x], { shape: [...shape] });
}

/** Throws unless a box of shape `inner` at `start` lies inside `outer`. */
function checkBox(where: string, inner: Shape, start: readonly number[], outer: Shape): void {
  const fits =
    start.length === outer.length &&
    inner.length === outer.length &&
    inner.every((d, i) => (start[i] as number) >= 0 && (start[i] as number) + d <= (outer[i] as number));
  if (!fits) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[${where}] got ${shapeText(inner)} at [${start.join(', ')}], expected a place inside ${shapeText(outer)}`,
    );
  }
}

const sliceOp = defineOp({
  name: 'slice',
  attrs: { start: 'ints', shape: 'ints' },
  infer(inputs, attrs) {
    const x = tensorInput('slice', 'x', inputs[0]);
    checkBox('slice', attrs.shape as Shape, attrs.start as number[], x.shape);
    return [{ dtype: x.dtype, shape: attrs.shape as Shape }];
  },
  gradient: ({ inputs, attrs, grads }) => [
    apply1(unsliceOp, [grads[0] as Tensor], {
      start: attrs.start as number[],
      shape: (inputs[0] as Tensor).shape,
    }),
  ],
  lower(node) {
    const strides = stridesOf((node.inputs[0] as Tensor).shape);
    const offset = (node.attrs.start as number[]).reduce((sum, s, i) => sum + s * (strides[i] as number), 0);
    return { kernel: 'strided_copy', attrs: stridedAttrs(strides, offset) };
  },
});

const unsliceOp = defineOp({
  name: 'unslice',
  attrs: { start: 'ints', shape: 'ints' },
  infer(inputs, attrs) {
    const x = tensorInput('unslice', 'x', inputs[0]);
    checkBox('unslice', x.shape, attrs.start as number[], attrs.shape as Shape);
    return [{ dtype: x.dtype, shape: attrs.shape as Shape }];
  },
  gradient: ({ inputs, attrs, grads }) => [
    apply1(sliceOp, [grads[0] as Tensor], {
      start: attrs.start as number[],
      shape: (inputs[0] as Tensor).shape,
    }),
  ],
  lower(node) {
    const strides = stridesOf(node.attrs.shape as Shape);
    const offset = (node.attrs.start as number[]).reduce((sum, s, i) => sum + s * (strides[i] as number), 0);
    return { kernel: 'strided_scatter', attrs: stridedAttrs(strides, offset) };
  },
});
/** Zeros of `shape` with x placed at `start`: the adjoint of `slice`. */
export function unslice(x: Tensor, start: readonly number[], shape: Shape): Tensor {
  checkShape('unslice', shape);
  return apply1(unsliceOp, [x], { start: [...start], shape: [...shape] });
}

/** Elements start ≤ i < end along one axis; negative numbers count from the end. */
export function slice(
  x: Tensor,
  axis: number,
  start: number,
  end: number = x.shape[checkAxis('slice', axis, x.rank)] as number,
): Tensor {
  const a = checkAxis('slice', axis, x.rank);
  const n = x.shape[a] as number;
  const from = start < 0 ? start + n : start;
  const to = end < 0 ? end + n : end;
  if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || to > n || from > to) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[slice] got ${start}…${end} on axis ${a}, expected a range inside 0…${n}`,
    );
  }
  if (from === 0 && to === n) return x;
  return apply1(sliceOp, [x], {
    start: x.shape.map((_, i) => (i === a ? from : 0)),
    shape: x.shape.map((d, i) => (i === a ? to - from : d)),
  });
}

const concatOp = defineOp({
  name: 'concat',
  attrs: { axis: 'int' },
  infer(inputs: readonly OpInput[], attrs) {
    const first = tensorInput('concat', 'x', inputs[0]);
    const axis = attrs.axis as number;
    let total = 0;
    for (const input of inputs) {
      const x = tensorInput('concat', 'x', input);
      const fits =
        x.dtype === first.dtype &&
        x.rank === first.rank &&
        x.shape.every((d, i) => i === axis || d === first.shape[i]);
      if (!fits)
        throw new SwitchyardError(
          'ERR_SHAPE',
          `[concat] got ${x} beside ${first}, expected equal dtypes and sizes off axis ${axis}`,
        );
      total += x.shape[axis] as number;
    }
    return [{ dtype: first.dtype, shape: first.shape.map((d, i) => (i === axis ? total : d)) }];
  },
  gradient({ inputs, attrs, grads }) {
    const axis = attrs.axis as number;
    let at = 0;
    return inputs.map((x) => {
      const n = (x as Tensor).shape[axis] as number;
      at += n;
      return slice(grads[0] as Tensor, axis, at - n, at);
    });
  },
  lower(node) {
    const axis = node.attrs.axis as number;
    return {
      kernel: 'concat',
      inputShapes: node.inputs.map((x) => aroundAxis((x as Tensor).shape, axis)),
      outputShapes: [aroundAxis((node.outputs[0] as Tensor).shape, axis)],
      attrs: [],
    };
  },
});
/** Joins tensors along one axis. */
export function concat(tensors: readonly Tensor[], axis = 0): Tensor {
  const first = tensors[0];
  if (!first) throw new SwitchyardError('ERR_OPTION', '[concat] got no tensors, expected at least one');
  return tensors.length === 1
    ? first
    : apply1(concatOp, tensors, { axis: checkAxis('concat', axis, first.rank) });
}
/** Joins tensors along a new axis. */
export function stack(tensors: readonly Tensor[], axis = 0): Tensor {
  const rank = (tensors[0]?.rank ?? 0) + 1;
  const a = checkAxis('stack', axis, rank);
  return concat(
    tensors.map((t) => reshape(t, [...t.shape.slice(0, a), 1, ...t.shape.slice(a)])),
    a,
  );
}

const iotaOp = defineOp({
  name: 'iota',
  attrs: { axis: 'int', shape: 'ints' },
  infer: (_inputs, attrs) => [{ dtype: 'i32', shape: attrs.shape as Shape }],
  gradient: 'nondifferentiable',
  lower: (node) => ({ kernel: 'iota', attrs: [{ type: 'int', value: node.attrs.axis as number }] }),
});
/** i32 indices along one axis of `shape`. */
export function iota(shape: Shape, axis = 0): Tensor {
  checkShape('iota', shape);
  return apply1(iotaOp, [], { axis: checkAxis('iota', axis, shape.length), shape: [...shape] });
}
