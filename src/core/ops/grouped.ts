/** Products of rows that are grouped by expert with ordinary tensors: what training stands on. */
import { apply1, checkDType, checkRank, checkSize, defineOp, type OpInput, tensorInput } from '../op.js';
import { type Shape, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { scatterAddRows } from './indexing.js';
import { checkIndex } from './moe-checks.js';

/** Checks x [_, K] beside w [E, N, K] (or [E, K, N]); returns E and N. */
function checkProduct(which: string, x: Tensor, w: Tensor, transpose: boolean): [e: number, n: number] {
  checkDType('grouped_matmul', `${which}x`, x.dtype, 'f32');
  checkRank('grouped_matmul', `${which}x`, x.shape, 2);
  checkDType('grouped_matmul', `${which}w`, w.dtype, 'f32');
  checkRank('grouped_matmul', `${which}w`, w.shape, 3);
  const [e, a, b] = w.shape as [number, number, number];
  checkSize('grouped_matmul', `columns of ${which}x`, x.shape[1] as number, transpose ? a : b);
  return [e, transpose ? b : a];
}

/** The rows of x seen through an optional index; returns how many. */
function checkRows(name: string, what: string, x: Tensor, index: OpInput | undefined): number {
  if (!index) return x.shape[0] as number;
  const rows = tensorInput(name, what, index);
  checkIndex(name, what, rows, 1);
  return rows.shape[0] as number;
}

const groupedMatmulOp = defineOp({
  name: 'grouped_matmul',
  attrs: { transpose: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('grouped_matmul', 'x', inputs[0]); // [R, K], with row ids [_, K]
    const w = tensorInput('grouped_matmul', 'w', inputs[1]); // [E, N, K] or, transposed, [E, K, N]
    const offsets = tensorInput('grouped_matmul', 'expert offsets', inputs[2]);
    const [experts, n] = checkProduct('', x, w, attrs.transpose === 1);
    checkIndex('grouped_matmul', 'expert offsets', offsets, 1);
    checkSize('grouped_matmul', 'expert offsets of length', offsets.size, experts + 1);
    const rows = checkRows('grouped_matmul', 'row ids', x, inputs[3]);
    if (inputs[4] || inputs[5]) {
      const x2 = tensorInput('grouped_matmul', 'second x', inputs[4]); // [R, K2]
      const w2 = tensorInput('grouped_matmul', 'second w', inputs[5]);
      const [experts2, n2] = checkProduct('second ', x2, w2, attrs.transpose === 1);
      checkSize('grouped_matmul', 'experts of second w', experts2, experts);
      checkSize('grouped_matmul', 'columns of the second product', n2, n);
      checkSize('grouped_matmul', 'rows of second x', x2.shape[0] as number, rows);
    }
    return [{ dtype: 'f32', shape: [rows, n] }];
  },
  gradient({ inputs, attrs, grads }) {
    const [x, w, offsets, rows, x2, w2] = inputs as [Tensor, Tensor, Tensor, ...(Tensor | null)[]];
    const g = grads[0] as Tensor;
    const back = { transpose: !attrs.transpose };
    const weight = (x: Tensor, rows: Tensor | null): Tensor =>
      attrs.transpose
        ? groupedMatmulGrad(x, g, offsets, { dyRows: rows })
        : groupedMatmulGrad(g, x, offsets, { xRows: rows });
    const dx = spread(groupedMatmul(g, w, offsets, back), rows, x);
    if (!x2 || !w2) return [dx, weight(x, rows ?? null), null, null, null, null];
    return [dx, weight(x, rows ?? null), null, null, groupedMatmul(g, w2, offsets, back), weight(x2, null)];
  },
  cost: ([x, w, , , x2, w2], [y]) => {
    const { shape } = y as { shape: Shape };
    const pairs = [x, w, x2, w2].filter((t) => t) as Tensor[];
    const k = (x as Tensor).shape[1] as number;
    const k2 = x2 ? ((x2 as Tensor).shape[1] as number) : 0;
    return {
      flops: 2 * sizeOf(shape) * (k + k2),
      bytes: pairs.reduce((sum, t) => sum + t.bytes, 4 * sizeOf(shape)),
    };
  },
  lower: (node) => ({
    kernel: 'grouped_matmul',
    attrs: [{ type: 'int', value: node.attrs.transpose as number }],
  }),
});

/** The gradient of the rows of x that an index picked. */
const spread = (g: Tensor, rows: Tensor | null | undefined, x: Tensor): Tensor =>
  rows ? scatterAddRows(g, rows, x.shape[0] as number) : g;

export interface GroupedMatmulOptions {
  /** w is [E, K, N]. Default false. */
  transpose?: boolean;
  /** i32 [R]: row r of the product reads x[rows[r]]; -1 past the last row. Default: x[r]. */
  rows?: Tensor | null;
  /** A second product that is added in the same chain: x [R, K2] and w [E, N, K2] (or [E, K2, N]). */
  plus?: { readonly x: Tensor; readonly w: Tensor } | null;
}
/** Rows of x [R, K], grouped by expert, each times its expert's matrix of w [E, N, K] (or [E, K, N] if `transpose`) → [R, N]. */
export const groupedMatmul = (
  x: Tensor,
  w: Tensor,
  expertOffsets: Tensor,
  { transpose = false, rows = null, plus = null }: GroupedMatmulOptions = {},
): Tensor =>
  apply1(groupedMatmulOp, [x, w, expertOffsets, rows, plus?.x ?? null, plus?.w ?? null], {
    transpose: transpose ? 1 : 0,
  });

const groupedMatmulGradOp = defineOp({
  name: 'grouped_matmul_grad',
  attrs: {},
  infer(inputs) {
    const dy = tensorInput('grouped_matmul_grad', 'dy', inputs[0]); // [R, N], with row ids [_, N]
    const x = tensorInput('grouped_matmul_grad', 'x', inputs[1]); // [R, K], with row ids [_, K]
    const offsets = tensorInput('grouped_matmul_grad', 'expert offsets', inputs[2]);
    checkDType('grouped_matmul_grad', 'dy', dy.dtype, 'f32');
    checkDType('grouped_matmul_grad', 'x', x.dtype, 'f32');
    checkIndex('grouped_matmul_grad', 'expert offsets', offsets, 1);
    if (offsets.size < 1) checkSize('grouped_matmul_grad', 'expert offsets of length', offsets.size, 1);
    checkRank('grouped_matmul_grad', 'dy', dy.shape, 2);
    checkRank('grouped_matmul_grad', 'x', x.shape, 2);
    const rows = checkRows('grouped_matmul_grad', 'row ids of dy', dy, inputs[3]);
    checkSize(
      'grouped_matmul_grad',
      'rows of x',
      checkRows('grouped_matmul_grad', 'row ids of x', x, inputs[4]),
      rows,
    );
    return [{ dtype: 'f32', shape: [offsets.size - 1, dy.shape[1] as number, x.shape[1] as number] }];
  },
  gradient({ inputs, grads }) {
    const [dy, x, offsets, dyRows, xRows] = inputs as [Tensor, Tensor, Tensor, Tensor | null, Tensor | null];
    const g = grads[0] as Tensor; // [E, N, K]
    return [
      spread(groupedMatmul(x, g, offsets, { rows: xRows }), dyRows, dy),
      spread(groupedMatmul(dy, g, offsets, { transpose: true, rows: dyRows }), xRows, x),
      null,
      null,
      null,
    ];
  },
  cost: ([dy, x, , dyRows], [w]) => {
    const { shape } = w as { shape: Shape };
    const rows = (dyRows ? (dyRows as Tensor) : (dy as Tensor)).shape[0] as number;
    return {
      flops: 2 * rows * (shape[1] as number) * (shape[2] as number),
      bytes: (dy as Tensor).bytes + (x as Tensor).bytes + 4 * sizeOf(shape),
    };
  },
  lower: () => ({ kernel: 'grouped_matmul_grad', attrs: [] }),
});
export interface GroupedMatmulGradOptions {
  /** i32 [R]: row r of dy is dy[dyRows[r]]; -1 past the last row. Default: dy[r]. */
  dyRows?: Tensor | null;
  /** The same of x. */
  xRows?: Tensor | null;
}
/** dw[e] = Σ over rows r of expert e of dy[r] xᵀ[r] → [E, N, K]; zero for an expert without rows. */
export const groupedMatmulGrad = (
  dy: Tensor,
  x: Tensor,
  expertOffsets: Tensor,
  { dyRows = null, xRows = null }: GroupedMatmulGradOptions = {},
): Tensor => apply1(groupedMatmulGradOp, [dy, x, expertOffsets, dyRows, xRows]);
