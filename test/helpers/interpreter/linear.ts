/** Reference of matrix products, dense and by expert. */
import { sizeOf } from '../../../src/core/shape.js';
import type { Rule, Rules } from './rule.js';
import type { Value } from './value.js';

/** A matrix inside flat data: element (i, j) lies at start + i·row + j·column. */
interface Matrix {
  readonly data: Float64Array;
  readonly start: number;
  readonly row: number;
  readonly column: number;
}
const matrix = (data: Float64Array, start: number, columns: number, transposed = false): Matrix =>
  transposed ? { data, start, row: 1, column: columns } : { data, start, row: columns, column: 1 };

/** y[i, j] += Σ_k a[i, k] · b[k, j]; y has n columns and begins at `at`. */
function accumulate(
  y: Float64Array,
  at: number,
  m: number,
  n: number,
  k: number,
  a: Matrix,
  b: Matrix,
): void {
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let total = y[at + i * n + j];
      for (let l = 0; l < k; l++)
        total += a.data[a.start + i * a.row + l * a.column] * b.data[b.start + l * b.row + j * b.column];
      y[at + i * n + j] = total;
    }
}

/** Rows [offsets[e], offsets[e + 1]) of each expert, kept inside the tensor. */
function groups(offsets: Value): [expert: number, first: number, count: number][] {
  return Array.from(offsets.data.subarray(0, -1), (first, e) => [e, first, offsets.data[e + 1] - first]);
}

/** Rows of x by ids; -1 gives zeros. */
function picked(x: Value, ids: Value | null): Value {
  if (!ids) return x;
  const width = x.shape[1] as number;
  const data = new Float64Array(ids.data.length * width);
  ids.data.forEach((id, r) => {
    if (id >= 0) data.set(x.data.subarray(id * width, (id + 1) * width), r * width);
  });
  return { ...x, shape: [ids.data.length, width], data };
}

const groupedWeight =
  (transposed: boolean): Rule =>
  ({ x, weight, out }) => {
    const [rows, w] = [x(0), weight(2)];
    const [n, k] = transposed ? [w.columns, w.rows] : [w.rows, w.columns];
    const y = new Float64Array(sizeOf(out(0).shape));
    for (const [e, first, count] of groups(x(1))) {
      const b = matrix(w.data, e * w.rows * w.columns, w.columns, !transposed);
      accumulate(y, first * n, count, n, k, matrix(rows.data, first * k, k), b);
    }
    return [y];
  };

export const LINEAR_RULES: Rules = {
  matmul({ x, number, out }) {
    const [a, b] = [x(0), x(1)];
    const [batch, m, n] = out(0).shape as [number, number, number];
    const k = number('transposeA') ? a.shape[1] : a.shape[2];
    const y = new Float64Array(batch * m * n);
    const [sizeA, sizeB] = [m * k, b.shape[0] === 1 ? 0 : k * n];
    for (let i = 0; i < batch; i++) {
      const left = matrix(a.data, i * sizeA, a.shape[2], number('transposeA') === 1);
      const right = matrix(b.data, i * sizeB, b.shape[2], number('transposeB') === 1);
      accumulate(y, i * m * n, m, n, k, left, right);
    }
    return [y];
  },
  linear({ x, weight }) {
    const [rows, w] = [x(0), weight(1)];
    const m = rows.shape[0] as number;
    const y = new Float64Array(m * w.rows);
    const a = matrix(rows.data, 0, w.columns);
    accumulate(y, 0, m, w.rows, w.columns, a, matrix(w.data, 0, w.columns, true));
    return [y];
  },
  linear_transposed({ x, weight }) {
    const [dy, w] = [x(0), weight(1)];
    const m = dy.shape[0] as number;
    const y = new Float64Array(m * w.columns);
    accumulate(y, 0, m, w.columns, w.rows, matrix(dy.data, 0, w.rows), matrix(w.data, 0, w.columns));
    return [y];
  },
  grouped_linear: groupedWeight(false),
  grouped_linear_transposed: groupedWeight(true),
  embedding({ x, weight }) {
    const [ids, w] = [x(0), weight(1)];
    const y = new Float64Array(ids.data.length * w.columns);
    ids.data.forEach((id, i) => {
      y.set(w.data.subarray(id * w.columns, (id + 1) * w.columns), i * w.columns);
    });
    return [y];
  },
  grouped_matmul({ x, optional, number, out }) {
    const [, n] = out(0).shape as [number, number];
    const y = new Float64Array(sizeOf(out(0).shape));
    const add = (rows: Value, w: Value): void => {
      const k = rows.shape[1] as number;
      for (const [e, first, count] of groups(x(2))) {
        const b = matrix(w.data, e * n * k, w.shape[2] as number, number('transpose') === 0);
        accumulate(y, first * n, count, n, k, matrix(rows.data, first * k, k), b);
      }
    };
    add(picked(x(0), optional(3)), x(1));
    const [x2, w2] = [optional(4), optional(5)];
    if (x2 && w2) add(x2, w2);
    return [y];
  },
  grouped_matmul_grad({ x, optional, out }) {
    const [dy, rows] = [picked(x(0), optional(3)), picked(x(1), optional(4))];
    const [n, k] = [dy.shape[1], rows.shape[1]] as [number, number];
    const dw = new Float64Array(sizeOf(out(0).shape));
    for (const [e, first, count] of groups(x(2))) {
      const a = matrix(dy.data, first * n, n, true);
      accumulate(dw, e * n * k, n, k, count, a, matrix(rows.data, first * k, k));
    }
    return [dw];
  },
};
