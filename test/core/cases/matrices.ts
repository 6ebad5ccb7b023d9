// Products of matrices, of weights, and of groups of them; embeddings.
import { isQuantized, WEIGHT_FORMATS } from '../../../src/core/format.js';
import { f32, type InputSpec, ids, literal, type OpCase, weight } from '../../helpers/op-case.js';
import { COMPUTE_TOLERANCE } from '../../helpers/tolerance.js';
import { valuesPerBlock } from '../../helpers/weights.js';
import { fixed, into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);

for (const transposeA of [0, 1])
  for (const transposeB of [0, 1]) {
    const attrs = { transposeA, transposeB };
    const matrices = (b: number, m: number, k: number, n: number, bb: number): InputSpec[] => [
      f32(transposeA ? [b, k, m] : [b, m, k]),
      f32(transposeB ? [bb, n, k] : [bb, k, n]),
    ];
    one('matmul', `one ${transposeA}${transposeB}`, matrices(1, 3, 5, 4, 1), attrs);
    one('matmul', `batch ${transposeA}${transposeB}`, matrices(3, 2, 7, 5, 3), attrs);
    one('matmul', `shared b ${transposeA}${transposeB}`, matrices(2, 3, 4, 3, 1), attrs);
    one('matmul', `large ${transposeA}${transposeB}`, matrices(2, 65, 131, 70, 2), attrs, fixed);
    one('matmul', `row ${transposeA}${transposeB}`, matrices(1, 1, 300, 129, 1), attrs, fixed);
  }
const plain = { transposeA: 0, transposeB: 0 };
one('matmul', 'one number', [f32([1, 1, 1]), f32([1, 1, 1])], plain);
one('matmul', 'no rows', [f32([1, 0, 3]), f32([1, 3, 2])], plain);
one('matmul', 'empty sum', [f32([2, 3, 0]), f32([2, 0, 2])], plain);

const exact = { compute: 0 };
for (const format of WEIGHT_FORMATS) {
  const columns = valuesPerBlock(format) === 256 ? 512 : isQuantized(format) ? 96 : 37;
  const quantised = isQuantized(format);
  one('linear', format, [f32([5, columns]), weight(35, columns, format)], exact, { gradient: !quantised });
  one('linear', `${format} row`, [f32([1, columns]), weight(16, columns, format)], exact, fixed);
  one('linear_transposed', format, [f32([3, 35]), weight(35, columns, format)], {}, { gradient: !quantised });
  one('embedding', format, [ids(0, 34, 7, 7), weight(35, columns, format)]);
  const grouped: InputSpec[] = [f32([7, columns]), ids(0, 2, 2, 7), weight(19, columns, format, 3)];
  one('grouped_linear', format, grouped, exact, { gradient: !quantised });
  one(
    'grouped_linear_transposed',
    format,
    [f32([7, 19]), ids(0, 2, 2, 7), weight(19, columns, format, 3)],
    {},
    { gradient: !quantised },
  );
  const [compute, tolerance] = quantised ? [2, COMPUTE_TOLERANCE.int8] : [1, COMPUTE_TOLERANCE.bf16];
  one(
    'linear',
    `${format} fast`,
    [f32([33, columns]), weight(35, columns, format)],
    { compute },
    { ...fixed, tolerance },
  );
  one('grouped_linear', `${format} fast`, grouped, { compute }, { ...fixed, tolerance });
}
one('linear', 'large', [f32([67, 301]), weight(130, 301)], exact, fixed);
one('linear', 'one number', [f32([1, 1]), weight(1, 1)], exact);
one('linear', 'no rows', [f32([0, 5]), weight(3, 5)], exact);
one('embedding', 'no ids', [literal('i32', [], [0]), weight(5, 8)]);
const offsetCases: [string, number[], number][] = [
  ['all to one expert', [0, 0, 9, 9, 9], 9],
  ['rows past the last', [0, 1, 3, 3, 4], 9],
  ['every second expert', [0, 4, 4, 9, 9], 9],
  ['no rows', [0, 0, 0, 0, 0], 0],
  ['none used', [0, 0, 0, 0, 0], 5],
];
for (const [name, offsets, rows] of offsetCases) {
  one('grouped_linear', name, [f32([rows, 11]), ids(...offsets), weight(17, 11, 'f32', 4)], exact);
  one('grouped_linear_transposed', name, [f32([rows, 17]), ids(...offsets), weight(17, 11, 'f32', 4)]);
  for (const transpose of [0, 1])
    one(
      'grouped_matmul',
      `${name} ${transpose}`,
      [f32([rows, 5]), f32(transpose ? [4, 5, 3] : [4, 3, 5]), ids(...offsets), null, null, null],
      { transpose },
    );
  one('grouped_matmul_grad', name, [f32([rows, 3]), f32([rows, 5]), ids(...offsets), null, null]);
  // the rows lie in another order, some twice; past the last one -1
  const used = offsets[4] as number;
  const picks = (of: number): InputSpec =>
    ids(...Array.from({ length: rows }, (_, r) => (r < used ? (r * 5 + 2) % of : -1)));
  for (const transpose of [0, 1])
    one(
      'grouped_matmul',
      `${name} picked, with a second product ${transpose}`,
      [
        f32([4, 5]),
        f32(transpose ? [4, 5, 3] : [4, 3, 5]),
        ids(...offsets),
        picks(4),
        f32([rows, 2]),
        f32(transpose ? [4, 2, 3] : [4, 3, 2]),
      ],
      { transpose },
    );
  one('grouped_matmul_grad', `${name} picked`, [
    f32([4, 3]),
    f32([6, 5]),
    ids(...offsets),
    picks(4),
    picks(6),
  ]);
}
// few rows, some, and more than a block of the kernels, with whole and broken vectors
for (const [n, k] of [
  [65, 70],
  [96, 80],
]) {
  const offsets = ids(0, 90, 91, 91, 200);
  const long = [f32([200, k]), f32([4, n, k]), offsets, null, null, null];
  one('grouped_matmul', `large ${n}`, long, { transpose: 0 }, fixed);
  const turned = [f32([200, k]), f32([4, k, n]), offsets, null, null, null];
  one('grouped_matmul', `large transposed ${n}`, turned, { transpose: 1 }, fixed);
  one('grouped_matmul_grad', `large ${n}`, [f32([200, n]), f32([200, k]), offsets, null, null], {}, fixed);
}
