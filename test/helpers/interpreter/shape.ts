/** Reference of the ops that move elements. */
import { sizeOf, stridesOf } from '../../../src/core/shape.js';
import type { Rules } from './rule.js';
import { broadcastIndex } from './value.js';

/** Calls back with each multi-index of `shape` in order. */
function walk(shape: readonly number[], visit: (index: readonly number[], flat: number) => void): void {
  const size = sizeOf(shape);
  const index = shape.map(() => 0);
  for (let flat = 0; flat < size; flat++) {
    visit(index, flat);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]++;
      if (index[axis] < shape[axis]) break;
      index[axis] = 0;
    }
  }
}
const flatIndex = (index: readonly number[], strides: readonly number[]): number =>
  index.reduce((sum, i, axis) => sum + i * strides[axis], 0);

export const SHAPE_RULES: Rules = {
  reshape: ({ x }) => [x(0).data],
  identity: ({ x }) => [x(0).data],
  stop_gradient: ({ x }) => [x(0).data],
  transpose({ x, ints, out }) {
    const from = x(0);
    const order = ints('order');
    const strides = stridesOf(from.shape);
    const y = new Float64Array(from.data.length);
    walk(out(0).shape, (index, flat) => {
      y[flat] = from.data[index.reduce((sum, i, axis) => sum + i * strides[order[axis]], 0)];
    });
    return [y];
  },
  broadcast_to({ x, out }) {
    const from = x(0);
    return [Float64Array.from(broadcastIndex(from.shape, out(0).shape), (i) => from.data[i])];
  },
  slice({ x, ints, out }) {
    const from = x(0);
    const start = ints('start');
    const strides = stridesOf(from.shape);
    const y = new Float64Array(sizeOf(out(0).shape));
    walk(out(0).shape, (index, flat) => {
      y[flat] =
        from.data[
          flatIndex(
            index.map((i, axis) => i + start[axis]),
            strides,
          )
        ];
    });
    return [y];
  },
  unslice({ x, ints, out }) {
    const from = x(0);
    const start = ints('start');
    const strides = stridesOf(out(0).shape);
    const y = new Float64Array(sizeOf(out(0).shape));
    walk(from.shape, (index, flat) => {
      const place = index.map((i, axis) => i + start[axis]);
      y[flatIndex(place, strides)] = from.data[flat];
    });
    return [y];
  },
  concat({ x, number, count, out }) {
    const axis = number('axis');
    const strides = stridesOf(out(0).shape);
    const y = new Float64Array(sizeOf(out(0).shape));
    let at = 0;
    for (let i = 0; i < count; i++) {
      const from = x(i);
      walk(from.shape, (index, flat) => {
        y[flatIndex(index, strides) + at * strides[axis]] = from.data[flat];
      });
      at += from.shape[axis];
    }
    return [y];
  },
  iota({ number, out }) {
    const y = new Float64Array(sizeOf(out(0).shape));
    walk(out(0).shape, (index, flat) => {
      y[flat] = index[number('axis')];
    });
    return [y];
  },
};
