/** Reductions, scans, and the sums that undo broadcasting. */
import { SwitchyardError } from '../errors.js';
import { apply1, checkDType, defineOp, type Node, type OpDef, tensorInput } from '../op.js';
import { aroundAxis, checkAxis, type Shape, sameShape, shapeText } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { cast, div, equal, exp, log, mul, sub, where } from './elementwise.js';
import { broadcastTo, reshape } from './shape.js';

const removed = (shape: Shape, axis: number): number[] => shape.filter((_, i) => i !== axis);
const kept = (shape: Shape, axis: number): number[] => shape.map((d, i) => (i === axis ? 1 : d));

/** Lowers to a kernel that works on [outer, n, inner]. */
function around(
  kernel: string,
  reduces: boolean,
  attrs: (node: Node) => number[] = () => [],
): OpDef['lower'] {
  return (node) => {
    const [outer, n, inner] = aroundAxis((node.inputs[0] as Tensor).shape, node.attrs.axis as number);
    return {
      kernel,
      inputShapes: [[outer, n, inner]],
      outputShapes: [reduces ? [outer, inner] : [outer, n, inner]],
      attrs: attrs(node).map((value) => ({ type: 'int' as const, value })),
    };
  };
}

function reduction(name: string, gradient: OpDef['gradient'], needsElements: boolean): OpDef {
  return defineOp({
    name,
    attrs: { axis: 'int' },
    infer(inputs, attrs) {
      const x = tensorInput(name, 'x', inputs[0]);
      checkDType(name, 'x', x.dtype, 'f32', ...(name === 'argmax' ? [] : (['i32'] as const)));
      const axis = checkAxis(name, attrs.axis as number, x.rank);
      if (needsElements && x.shape[axis] === 0) {
        throw new SwitchyardError(
          'ERR_SHAPE',
          `[${name}] got shape ${shapeText(x.shape)}, expected at least one element on axis ${axis}`,
        );
      }
      return [{ dtype: name === 'argmax' ? 'i32' : x.dtype, shape: removed(x.shape, axis) }];
    },
    gradient,
    lower: around(name, true),
  });
}

/** Puts a reduced axis back and spreads the values along it. */
function spread(g: Tensor, shape: Shape, axis: number): Tensor {
  return broadcastTo(reshape(g, kept(shape, axis)), shape);
}
const extremeGradient: OpDef['gradient'] = ({ inputs, outputs, attrs, grads }) => {
  const x = inputs[0] as Tensor;
  const axis = attrs.axis as number;
  const mask = cast(equal(x, spread(outputs[0] as Tensor, x.shape, axis)), 'f32');
  const share = div(mask, spread(sum(mask, axis), x.shape, axis)); // ties share equally
  return [mul(share, spread(grads[0] as Tensor, x.shape, axis))];
};

const sumOp = reduction(
  'sum',
  ({ inputs, attrs, grads }) => [
    spread(grads[0] as Tensor, (inputs[0] as Tensor).shape, attrs.axis as number),
  ],
  false,
);
const maxOp = reduction('max', extremeGradient, true);
const minOp = reduction('min', extremeGradient, true);
const argmaxOp = reduction('argmax', 'nondifferentiable', true);

type Axes = number | readonly number[] | undefined;
interface ReduceOptions {
  /** Keep reduced axes with size 1. Default false. */
  keepDims?: boolean;
}

function reduceAxes(op: OpDef, x: Tensor, axes: Axes, { keepDims = false }: ReduceOptions): Tensor {
  const rank = x.shape.length;
  const list =
    axes === undefined ? x.shape.map((_, i) => i) : [axes].flat().map((a) => checkAxis(op.name, a, rank));
  const sorted = [...new Set(list)].sort((a, b) => b - a);
  let y = x;
  for (const axis of sorted) y = apply1(op, [y], { axis });
  if (!keepDims) return y;
  return reshape(
    y,
    x.shape.map((d, i) => (sorted.includes(i) ? 1 : d)),
  );
}

/** Sum over `axes` (default: all), f32 or i32. */
export const sum = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor =>
  reduceAxes(sumOp, x, axes, options);
/** Largest value over `axes` (default: all). Ties share the gradient. */
export const max = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor =>
  reduceAxes(maxOp, x, axes, options);
export const min = (x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor =>
  reduceAxes(minOp, x, axes, options);
/** Index (i32) of the largest value along one axis; ties go to the lower index. */
export const argmax = (x: Tensor, axis = -1): Tensor =>
  apply1(argmaxOp, [x], { axis: checkAxis('argmax', axis, x.rank) });

export function mean(x: Tensor, axes?: Axes, options: ReduceOptions = {}): Tensor {
  const y = sum(x, axes, options);
  return div(y, x.size / Math.max(1, y.size));
}

/** log Σ eˣ along one axis, without overflow. */
export function logSumExp(x: Tensor, axis = -1, options: ReduceOptions = {}): Tensor {
  const a = checkAxis('logSumExp', axis, x.rank);
  const top = max(x, a, { keepDims: true });
  const finite = where(equal(sub(top, top), 0), top, 0); // a row of -inf stays -inf
  const y = sum(exp(sub(x, finite)), a, options);
  const back = options.keepDims ? finite : reshape(finite, removed(x.shape, a));
  return addBack(log(y), back);
}
const addBack = (a: Tensor, b: Tensor): Tensor => sub(a, sub(0, b));

const cumsumOp = defineOp({
  name: 'cumsum',
  attrs: { axis: 'int', exclusive: 'int', reverse: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('cumsum', 'x', inputs[0]);
    checkDType('cumsum', 'x', x.dtype, 'f32', 'i32');
    checkAxis('cumsum', attrs.axis as number, x.rank);
    return [{ dtype: x.dtype, shape: x.shape }];
  },
  gradient: ({ attrs, grads }) => [
    apply1(cumsumOp, [grads[0] as Tensor], { ...attrs, reverse: attrs.reverse ? 0 : 1 }),
  ],
  lower: around('cumsum', false, (node) => [node.attrs.exclusive as number, node.attrs.reverse as number]),
});
/** Running sum along `axis`; `exclusive` leaves out the element itself, `reverse` runs from the end. */
export function cumsum(x: Tensor, axis = -1, { exclusive = false, reverse = false } = {}): Tensor {
  return apply1(cumsumOp, [x], {
    axis: checkAxis('cumsum', axis, x.rank),
    exclusive: exclusive ? 1 : 0,
    reverse: reverse ? 1 : 0,
  });
}

/** Sums a gradient over the axes along which an operand of `shape` was broadcast. */
export function sumTo(g: Tensor, shape: Shape): Tensor {
  if (sameShape(g.shape, shape)) return g;
  const lead = g.rank - shape.length;
  const axes = g.shape.flatMap((d, i) => (i < lead || (shape[i - lead] === 1 && d !== 1) ? [i] : []));
  return reshape(cast(sum(cast(g, 'f32'), axes), g.dtype), shape); // narrow floats are summed in f32
}
