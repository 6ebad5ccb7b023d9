/** Matrix products of ordinary tensors; products with packed weights are in linear.ts. */
import { SwitchyardError } from '../errors.js';
import { apply1, checkDType, checkRank, checkSize, defineOp, tensorInput } from '../op.js';
import { broadcastShapes, type Shape, shapeText, sizeOf } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { sum } from './reduce.js';
import { broadcastTo, reshape } from './shape.js';

const matmulOp = defineOp({
  name: 'matmul',
  attrs: { transposeA: 'int', transposeB: 'int' },
  infer(inputs, attrs) {
    const a = tensorInput('matmul', 'a', inputs[0]); // [B, M, K]
    const b = tensorInput('matmul', 'b', inputs[1]); // [B or 1, K, N]
    checkDType('matmul', 'a', a.dtype, 'f32');
    checkDType('matmul', 'b', b.dtype, 'f32');
    checkRank('matmul', 'a', a.shape, 3);
    checkRank('matmul', 'b', b.shape, 3);
    if (b.shape[0] !== 1) checkSize('matmul', 'batch of b', b.shape[0] as number, a.shape[0] as number);
    const [m, k] = attrs.transposeA ? [a.shape[2], a.shape[1]] : [a.shape[1], a.shape[2]];
    const [k2, n] = attrs.transposeB ? [b.shape[2], b.shape[1]] : [b.shape[1], b.shape[2]];
    if (k !== k2) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[matmul] got ${shapeText(a.shape)} and ${shapeText(b.shape)} (transposes ${attrs.transposeA}, ${attrs.transposeB}), expected equal inner sizes`,
      );
    }
    return [{ dtype: 'f32', shape: [a.shape[0] as number, m as number, n as number] }];
  },
  gradient({ inputs, attrs, grads }) {
    const [a, b] = inputs as [Tensor, Tensor];
    const g = grads[0] as Tensor;
    const [ta, tb] = [attrs.transposeA as number, attrs.transposeB as number];
    const ga = ta ? product(b, g, tb, 1) : product(g, b, 0, tb ? 0 : 1);
    const gb = tb ? product(g, a, 1, ta) : product(a, g, ta ? 0 : 1, 0);
    return [ga, b.shape[0] === gb.shape[0] ? gb : sum(gb, 0, { keepDims: true })];
  },
  cost([a, b], [y]) {
    const [x, w] = [a as Tensor, b as Tensor];
    const size = sizeOf((y as { shape: Shape }).shape);
    return {
      flops:
        (2 * size * x.size) /
        Math.max(1, x.shape[0] as number) /
        Math.max(1, (y as { shape: Shape }).shape[1] as number),
      bytes: x.bytes + w.bytes + 4 * size,
    };
  },
  lower: (node) => ({
    kernel: 'matmul',
    attrs: [
      { type: 'int', value: node.attrs.transposeA as number },
      { type: 'int', value: node.attrs.transposeB as number },
    ],
  }),
});

/** Rank-3 product; where the first operand has batch 1 and the second more, the first is repeated. */
function product(a: Tensor, b: Tensor, transposeA: number, transposeB: number): Tensor {
  const batch = b.shape[0] as number;
  const left = a.shape[0] === 1 && batch !== 1 ? broadcastTo(a, [batch, ...a.shape.slice(1)]) : a;
  return apply1(matmulOp, [left, b], { transposeA, transposeB });
}

export interface MatmulOptions {
  /** Use the last two axes of `a` swapped. Default false. */
  transposeA?: boolean;
  transposeB?: boolean;
}

/**
 * a […, M, K] · b […, K, N] → […, M, N] in f32; leading axes broadcast.
 * A matrix `b` beside a higher-rank `a` is one big product, not a batch of small ones.
 */
export function matmul(
  a: Tensor,
  b: Tensor,
  { transposeA = false, transposeB = false }: MatmulOptions = {},
): Tensor {
  if (a.rank < 2 || b.rank < 2) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[matmul] got ${shapeText(a.shape)} and ${shapeText(b.shape)}, expected matrices (rank 2 or more)`,
    );
  }
  const [ta, tb] = [transposeA ? 1 : 0, transposeB ? 1 : 0];
  const matrixA = a.shape.slice(-2);
  const matrixB = b.shape.slice(-2);
  if (b.rank === 2 && !transposeA) {
    const k = a.shape[a.rank - 1] as number;
    const rows = sizeOf(a.shape.slice(0, -1));
    const y = product(reshape(a, [1, rows, k]), reshape(b, [1, ...matrixB]), 0, tb);
    return reshape(y, [...a.shape.slice(0, -1), y.shape[2] as number]);
  }
  const lead = broadcastShapes('matmul', a.shape.slice(0, -2), b.shape.slice(0, -2));
  const batch = sizeOf(lead);
  const x = reshape(broadcastTo(a, [...lead, ...matrixA]), [batch, ...matrixA]);
  const shared = sizeOf(b.shape.slice(0, -2)) === 1;
  const w = shared
    ? reshape(b, [1, ...matrixB])
    : reshape(broadcastTo(b, [...lead, ...matrixB]), [batch, ...matrixB]);
  const y = product(x, w, ta, tb);
  return reshape(y, [...lead, y.shape[1] as number, y.shape[2] as number]);
}
