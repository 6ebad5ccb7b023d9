/**
 * The case table of ops. Every op has cases here; they drive the forward tests on every tier, the gradient checks, and
 * the comparison of the op table with the native kernels. table.test.ts fails for an op without one.
 */
import { DTYPES, type DType, dtypeCode } from '../../src/core/dtype.js';
import { isQuantized, WEIGHT_FORMATS } from '../../src/core/format.js';
import type { Attrs } from '../../src/core/op.js';
import { storedChannels } from '../../src/core/ops/attention.js';
import type { Shape } from '../../src/core/shape.js';
import { ChainBatch, wordOf } from '../../src/generate/samplers/chain-batch.js';
import type { ChainKind } from '../../src/generate/samplers/kinds.js';
import {
  bool,
  type CaseOptions,
  f32,
  type InputSpec,
  i32,
  ids,
  literal,
  type OpCase,
  ofType,
  type TensorSpec,
  weight,
} from '../helpers/op-case.js';
import { COMPUTE_TOLERANCE, GRAPH_TOLERANCE } from '../helpers/tolerance.js';
import { valuesPerBlock } from '../helpers/weights.js';

export const CASES: OpCase[] = [];
function one(
  op: string,
  name: string,
  inputs: readonly InputSpec[],
  attrs: Attrs = {},
  options: CaseOptions = {},
): void {
  CASES.push({ op, name, inputs, attrs, ...options });
}
/** A case whose values jump, tie or are no numbers: no central differences. */
const fixed = { gradient: false } as const;
const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const LOWEST = -2147483648;

// ---- elementwise

for (const dtype of DTYPES) {
  const value = dtype === 'bool' ? 1 : dtype === 'f32' || dtype === 'bf16' ? -0.3 : 7;
  one('full', dtype, [], { value, shape: [3, 5], dtype: dtypeCode(dtype) });
}
one('full', 'f16 rounds', [], { value: 0.1, shape: [2], dtype: dtypeCode('f16') });
one('full', 'scalar', [], { value: -inf, shape: [], dtype: 0 });
one('full', 'no elements', [], { value: 1, shape: [0, 3], dtype: 0 });

const UNARY: Record<string, [low: number, high: number]> = {
  neg: [-3, 3],
  abs: [-3, 3],
  sign: [-3, 3],
  exp: [-10, 10],
  log: [0.01, 20],
  log1p: [-0.9, 20],
  sqrt: [0.1, 9],
  rsqrt: [0.1, 9],
  reciprocal: [0.3, 5],
  tanh: [-3, 3],
  erf: [-4, 4],
  sigmoid: [-9, 9],
  sin: [-20, 20],
  cos: [-20, 20],
  floor: [-5, 5],
};
for (const [op, [low, high]] of Object.entries(UNARY)) {
  one(op, 'odd sizes', [f32([7, 13], low, high)]);
  one(op, 'one number', [f32([], low, high)]);
  one(op, 'no rows', [f32([0, 4], low, high)]);
  one(op, 'many', [f32([3, 5003], low, high)], {}, fixed);
  one(op, 'f16', [ofType('f16', [33], low, high)]);
  one(op, 'bf16', [ofType('bf16', [2, 17], low, high)]);
  one(op, 'specials', [literal('f32', [0, -0, 1, -1, inf, -inf, nan, 100, -100, 1e-30, 3e38])], {}, fixed);
}

const ARITHMETIC = ['add', 'sub', 'mul', 'div', 'maximum', 'minimum'];
const COMPARISONS = ['less', 'less_equal', 'equal', 'not_equal'];
const LOGICAL = ['and', 'or', 'xor'];
const BROADCASTS: [string, Shape, Shape][] = [
  ['same shape', [5, 9], [5, 9]],
  ['row', [4, 70], [70]],
  ['row on the left', [5], [3, 5]],
  ['column', [4, 70], [4, 1]],
  ['column and row', [6, 1], [1, 7]],
  ['one number', [3, 5], []],
  ['one number on the left', [1, 1], [3, 5]],
  ['both one number', [], []],
  ['inner axis', [2, 3, 5], [2, 1, 5]],
  ['both grow', [2, 1, 3, 1], [4, 1, 5]],
  ['no rows', [0, 3], [3]],
  ['one against none', [2, 1], [2, 0]],
];
for (const op of [...ARITHMETIC, 'pow', ...COMPARISONS]) {
  const low = op === 'pow' || op === 'div' ? 0.3 : -2;
  for (const [name, a, b] of BROADCASTS) one(op, name, [f32(a, low, 3), f32(b, low, 3)]);
  one(op, 'many', [f32([37, 1031], low, 3), f32([1031], low, 3)], {}, fixed);
  one(op, 'f16', [ofType('f16', [3, 17], low, 3), ofType('f16', [17], low, 3)]);
  one(op, 'bf16', [ofType('bf16', [3, 17], low, 3), ofType('bf16', [3, 1], low, 3)]);
}
for (const op of [...ARITHMETIC, ...COMPARISONS]) {
  const specials = [0, -0, 1, inf, -inf, nan];
  const pairs = specials.flatMap((a) => specials.map((b) => [a, b] as const));
  const side = (k: 0 | 1): TensorSpec =>
    literal(
      'f32',
      pairs.map((p) => p[k]),
    );
  one(op, 'specials', [side(0), side(1)], {}, fixed);
  const whole = [0, 1, -1, 7, -7, 2147483647, LOWEST];
  const all = whole.flatMap((a) => whole.map((b) => [a, b] as const));
  const ints = (k: 0 | 1): TensorSpec =>
    literal(
      'i32',
      all.map((p) => p[k]),
    );
  one(op, 'i32 limits', [ints(0), ints(1)]);
  one(op, 'i32 row', [i32([4, 19], -9, 9), i32([19], -9, 9)]);
}
for (const dtype of ['u8', 'u32'] as const) {
  const limits = dtype === 'u8' ? [0, 1, 200, 255, 255] : [0, 1, 4e9, 4294967295, 4294967295];
  for (const op of ['add', 'sub', 'mul', 'equal', 'not_equal', ...LOGICAL])
    one(op, `${dtype} wraps`, [literal(dtype, limits), literal(dtype, [...limits].reverse())]);
}
one('mod', 'signs', [literal('i32', [7, -7, 7, -7, 5, LOWEST, 0]), literal('i32', [3, 3, -3, -3, 0, -1, 4])]);
one('mod', 'row', [i32([3, 40], -99, 99), i32([40], 1, 9)]);
for (const op of LOGICAL) {
  one(op, 'bool', [literal('bool', [0, 0, 1, 1]), literal('bool', [0, 1, 0, 1])]);
  one(op, 'bool column', [bool([5, 33]), bool([5, 1])]);
  one(op, 'i32', [i32([50], -1000, 1000), i32([50], -1000, 1000)]);
}
one('not', 'bool', [literal('bool', [0, 1, 1])]);
one('not', 'many', [bool([2, 1033])]);
one('not', 'i32', [literal('i32', [0, -1, 5, LOWEST])]);
one('not', 'u8', [literal('u8', [0, 255, 170])]);

one('where', 'same shape', [bool([4, 9]), f32([4, 9]), f32([4, 9])]);
one('where', 'condition by row', [bool([4, 1]), f32([4, 9]), f32([9])]);
one('where', 'one condition', [bool([]), f32([5]), f32([2, 1])]);
one('where', 'all grow', [bool([2, 1, 1]), f32([3, 1]), f32([7])]);
one('where', 'i32', [bool([6]), i32([6], -9, 9), i32([], -9, 9)]);
one('where', 'bool', [bool([6]), bool([6]), bool([6])]);
one('where', 'f16', [bool([6]), ofType('f16', [6]), ofType('f16', [1])]);
one(
  'where',
  'hides NaN',
  [literal('bool', [1, 0]), literal('f32', [1, nan]), literal('f32', [nan, 2])],
  {},
  fixed,
);
one('where', 'no rows', [bool([0, 1]), f32([0, 3]), f32([3])]);

for (const from of DTYPES) {
  for (const to of DTYPES) {
    const floats = (d: DType): boolean => d.includes('f');
    const unsigned = from === 'u32' || to === 'u32';
    if (from === to || (unsigned && floats(from) !== floats(to))) continue;
    const low = to === 'u8' || to === 'u32' ? 0 : -90;
    const input = from === 'bool' ? bool([3, 15]) : ofType(from, [3, 15], low, 90);
    one('cast', `${from} to ${to}`, [input], { dtype: dtypeCode(to) });
  }
}
const toI32 = { dtype: dtypeCode('i32') };
one('cast', 'truncates', [literal('f32', [0.9, -0.9, 1.5, -1.5, 1e9, -1e9])], toI32);
one('cast', 'beyond i32', [literal('f32', [3e9, -3e9, inf, -inf, nan])], toI32);
one('cast', 'f16 rounds to even', [literal('f32', [2049, 2051, 65519, 65520, 1e-8, -1e-8, 6e-8, 1e-5])], {
  dtype: dtypeCode('f16'),
});
one('cast', 'bf16 rounds to even', [literal('f32', [257, 259, 1.00390625, -1.01171875, inf, nan])], {
  dtype: dtypeCode('bf16'),
});
one('cast', 'to bool', [literal('f32', [0, -0, 0.1, nan, -3])], { dtype: dtypeCode('bool') }, fixed);
one('cast', 'wraps to u8', [literal('i32', [255, 256, -1, 511])], { dtype: dtypeCode('u8') });
one('cast', 'many', [ofType('f16', [5, 3001])], { dtype: 0 }, fixed);
one('stop_gradient', 'passes', [f32([3, 4])]);

// ---- shape

one('reshape', 'matrix to vector', [f32([3, 5])], { shape: [15] });
one('reshape', 'bool', [bool([2, 3])], { shape: [3, 1, 2] });
one('identity', 'passes', [f32([3, 4])]);
for (const [shape, order] of [
  [
    [3, 5],
    [1, 0],
  ],
  [
    [1, 7],
    [1, 0],
  ],
  [
    [2, 3, 4],
    [2, 0, 1],
  ],
  [
    [2, 3, 4],
    [1, 0, 2],
  ],
  [
    [2, 3, 4, 5],
    [0, 2, 1, 3],
  ],
  [
    [2, 1, 3, 1, 2],
    [4, 2, 0, 1, 3],
  ],
  [
    [0, 3],
    [1, 0],
  ],
] as const)
  one('transpose', `[${shape}] by [${order}]`, [f32(shape)], { order });
one('transpose', 'many', [f32([67, 129])], { order: [1, 0] }, fixed);
for (const dtype of ['f16', 'i32', 'u8', 'bool'] as const)
  one('transpose', dtype, [ofType(dtype, [9, 5], 0, 9)], { order: [1, 0] });
for (const [from, to] of [
  [[5], [3, 5]],
  [
    [4, 1],
    [4, 6],
  ],
  [[], [2, 3]],
  [
    [2, 1, 3, 1],
    [2, 4, 3, 5],
  ],
  [
    [1, 3],
    [0, 3],
  ],
] as const)
  one('broadcast_to', `[${from}] to [${to}]`, [f32(from)], { shape: to });
one('broadcast_to', 'u8', [ofType('u8', [3, 1], 0, 9)], { shape: [3, 5] });
one('slice', 'rows', [f32([7, 3])], { start: [2, 0], shape: [4, 3] });
one('slice', 'columns', [f32([5, 9])], { start: [0, 3], shape: [5, 2] });
one('slice', 'box', [f32([4, 5, 6])], { start: [1, 2, 3], shape: [2, 3, 3] });
one('slice', 'one element', [f32([4, 5])], { start: [3, 4], shape: [1, 1] });
one('slice', 'nothing', [f32([4, 5])], { start: [4, 0], shape: [0, 5] });
one('slice', 'bf16', [ofType('bf16', [6, 5])], { start: [1, 1], shape: [3, 4] });
one('unslice', 'rows', [f32([4, 3])], { start: [2, 0], shape: [7, 3] });
one('unslice', 'box', [f32([2, 3, 3])], { start: [1, 2, 3], shape: [4, 5, 6] });
one('unslice', 'nothing', [f32([0, 5])], { start: [4, 0], shape: [4, 5] });
one('unslice', 'i32', [i32([3], -9, 9)], { start: [2], shape: [9] });
one('concat', 'rows', [f32([2, 3]), f32([1, 3]), f32([4, 3])], { axis: 0 });
one('concat', 'columns', [f32([5, 2]), f32([5, 3])], { axis: 1 });
one('concat', 'middle', [f32([2, 1, 3]), f32([2, 4, 3])], { axis: 1 });
one('concat', 'an empty part', [f32([2, 0]), f32([2, 3])], { axis: 1 });
one('concat', 'u8', [ofType('u8', [3, 1], 0, 9), ofType('u8', [3, 2], 0, 9)], { axis: 1 });
one('concat', 'f16', [ofType('f16', [2, 2]), ofType('f16', [3, 2])], { axis: 0 });
for (const axis of [0, 1, 2]) one('iota', `axis ${axis}`, [], { axis, shape: [3, 5, 2] });
one('iota', 'one', [], { axis: 0, shape: [1] });
one('iota', 'many', [], { axis: 0, shape: [70001] });
one('iota', 'none', [], { axis: 1, shape: [2, 0] });

// ---- reductions, scans, order

for (const op of ['sum', 'max', 'min', 'argmax']) {
  for (const [shape, axis] of [
    [[13], 0],
    [[5, 9], 1],
    [[5, 9], 0],
    [[3, 7, 4], 1],
    [[3, 1, 4], 1],
    [[0, 3], 1],
    [[2, 130, 70], 1],
  ] as [number[], number][])
    one(op, `[${shape}] over ${axis}`, [f32(shape)], { axis });
  one(op, 'long', [f32([3, 40007])], { axis: 1 }, fixed);
  one(op, 'wide', [f32([301, 257])], { axis: 0 }, fixed);
  one(op, 'ties', [literal('f32', [1, 3, 3, 0, -1, -1, -1, -2], [2, 4])], { axis: 1 }, fixed);
  one(op, 'infinities', [literal('f32', [1, inf, 0, -inf, -inf, -inf], [2, 3])], { axis: 1 }, fixed);
  if (op === 'argmax') continue;
  one(op, 'NaN', [literal('f32', [1, nan, 3, 4, 5, 6], [2, 3])], { axis: 1 }, fixed);
  one(op, 'NaN by column', [literal('f32', [1, nan, 3, 4, 5, 6], [2, 3])], { axis: 0 }, fixed);
  one(op, 'i32', [i32([4, 33], -99, 99)], { axis: 1 });
  one(op, 'i32 by column', [i32([5, 7], -99, 99)], { axis: 0 });
}
one('sum', 'no elements', [f32([3, 0])], { axis: 1 });
one('sum', 'i32 wraps', [literal('i32', [2147483647, 1, 5], [1, 3])], { axis: 1 });
for (const exclusive of [0, 1])
  for (const reverse of [0, 1]) {
    const attrs = { exclusive, reverse };
    one('cumsum', `last axis ${exclusive}${reverse}`, [f32([3, 9])], { axis: 1, ...attrs });
    one('cumsum', `first axis ${exclusive}${reverse}`, [f32([6, 5])], { axis: 0, ...attrs });
    one('cumsum', `i32 ${exclusive}${reverse}`, [i32([2, 5, 3], -9, 9)], { axis: 1, ...attrs });
  }
one(
  'cumsum',
  'long',
  [f32([2, 9001])],
  { axis: 1, exclusive: 0, reverse: 0 },
  { ...fixed, tolerance: GRAPH_TOLERANCE },
);
one('cumsum', 'none', [f32([0, 3])], { axis: 1, exclusive: 1, reverse: 0 });
for (const descending of [0, 1]) {
  const way = descending ? 'falling' : 'rising';
  one('sort', way, [f32([3, 17])], { descending });
  one(
    'sort',
    `${way} ties, NaN, infinities`,
    [literal('f32', [2, nan, 1, 2, -inf, inf, 1, nan, -0, 0], [1, 10])],
    { descending },
    fixed,
  );
  one('sort', `${way} long`, [f32([2, 3001])], { descending }, fixed);
  one('sort', `${way} one`, [f32([4, 1])], { descending });
}
one('sort', 'no rows', [f32([0, 5])], { descending: 0 });
one('top_k', 'one', [f32([5, 7])], { k: 1 });
one('top_k', 'eight of 64', [f32([9, 64])], { k: 8 });
one('top_k', 'all', [f32([2, 3, 5])], { k: 5 });
one('top_k', 'ties', [literal('f32', [1, 2, 2, 1, 2, 0, 0, 0, 0, 0], [2, 5])], { k: 3 }, fixed);
one('top_k', 'NaN last', [literal('f32', [nan, 1, nan, -inf, 2, inf], [2, 3])], { k: 3 }, fixed);
one('top_k', 'no rows', [f32([0, 4])], { k: 2 });
one('top_k', 'long', [f32([2, 5001])], { k: 50 }, fixed);

// ---- gather, scatter

one('take_rows', 'repeated and absent', [f32([5, 3]), ids(4, -1, 0, 0, 2)]);
one('take_rows', 'rank 3', [f32([4, 2, 3]), ids(3, 1)]);
one('take_rows', 'vector', [f32([6]), ids(5, -1, 2)]);
one('take_rows', 'no ids', [f32([4, 3]), literal('i32', [], [0])]);
one('take_rows', 'no rows', [f32([0, 3]), ids(-1, -1)]);
for (const dtype of ['f16', 'i32', 'bool'] as const)
  one('take_rows', dtype, [ofType(dtype, [4, 5], -9, 9), ids(3, -1, 3)]);
one('take_rows', 'wide', [f32([50, 257]), i32([300], -1, 50)], {}, fixed);
one('scatter_add_rows', 'repeated and absent', [f32([5, 3]), ids(2, -1, 0, 2, 2)], { rows: 4 });
one('scatter_add_rows', 'vector', [f32([3]), ids(1, 1, 0)], { rows: 5 });
one('scatter_add_rows', 'all to one', [f32([40, 33]), literal('i32', new Array<number>(40).fill(1))], {
  rows: 3,
});
one('scatter_add_rows', 'nothing', [f32([0, 3]), literal('i32', [], [0])], { rows: 4 });
one('scatter_add_rows', 'wide', [f32([300, 129]), i32([300], -1, 50)], { rows: 50 }, fixed);
one('take_along', 'last axis', [f32([3, 7]), i32([3, 4], 0, 7)], { axis: 1 });
one('take_along', 'first axis', [f32([7, 3]), i32([5, 3], 0, 7)], { axis: 0 });
one('take_along', 'middle', [f32([2, 5, 3]), i32([2, 1, 3], 0, 5)], { axis: 1 });
one('take_along', 'no rows', [f32([0, 5]), i32([0, 2], 0, 5)], { axis: 1 });
one('scatter_add_along', 'last axis', [f32([3, 4]), i32([3, 4], 0, 7)], { axis: 1, size: 7 });
one('scatter_add_along', 'first axis', [f32([5, 3]), i32([5, 3], 0, 2)], { axis: 0, size: 2 });
one('scatter_add_along', 'nothing', [f32([2, 0]), i32([2, 0], 0, 2)], { axis: 1, size: 3 });

// ---- matrices

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

// ---- softmax, norms, losses

for (const op of ['softmax', 'log_softmax']) {
  one(op, 'rows', [f32([3, 9])]);
  one(op, 'rank 3', [f32([2, 2, 5])]);
  one(op, 'one column', [f32([3, 1])]);
  one(op, 'no rows', [f32([0, 5])]);
  one(op, 'long', [f32([3, 5003], -9, 9)], {}, fixed);
  one(op, 'large numbers', [f32([2, 7], 800, 900)], {}, fixed);
  one(op, '-inf', [literal('f32', [-inf, 1, -inf, 2, -inf, -inf, -inf, -inf], [2, 4])], {}, fixed);
}
const rms = { eps: 1e-5, weightOffset: 0 };
one('rms_norm', 'with weight', [f32([5, 7]), f32([7])], rms);
one('rms_norm', 'weight counts from 1', [f32([5, 7]), f32([7])], { eps: 1e-6, weightOffset: 1 });
one('rms_norm', 'without weight', [f32([2, 3, 5]), null], rms);
one('rms_norm', 'one column', [f32([3, 1]), f32([1])], { eps: 0.5, weightOffset: 0 });
one('rms_norm', 'zeros', [literal('f32', [0, 0, 0]), null], { eps: 1e-6, weightOffset: 0 }, fixed);
one('rms_norm', 'no rows', [f32([0, 7]), f32([7])], rms);
one('rms_norm', 'long', [f32([33, 1027]), f32([1027])], rms, fixed);
one('layer_norm', 'weight and bias', [f32([5, 7]), f32([7]), f32([7])], { eps: 1e-5 });
one('layer_norm', 'weight', [f32([5, 7]), f32([7]), null], { eps: 1e-5 });
one('layer_norm', 'bias', [f32([2, 2, 7]), null, f32([7])], { eps: 1e-5 });
one('layer_norm', 'bare', [f32([9]), null, null], { eps: 1e-2 });
one('layer_norm', 'no rows', [f32([0, 7]), f32([7]), null], { eps: 1e-5 });
one(
  'layer_norm',
  'long',
  [f32([33, 1027], 3, 5), f32([1027]), f32([1027])],
  { eps: 1e-5 },
  { ...fixed, tolerance: GRAPH_TOLERANCE },
);
one('cross_entropy', 'rows', [f32([4, 7]), ids(0, 6, -1, 3)]);
one('cross_entropy', 'all ignored', [f32([2, 3]), ids(-1, -1)]);
one('cross_entropy', 'no rows', [f32([0, 3]), literal('i32', [], [0])]);
one('cross_entropy', 'many', [f32([37, 1031], -5, 5), i32([37], -1, 1031)], {}, fixed);
one('cross_entropy_grad', 'rows', [f32([4, 7]), ids(0, 6, -1, 3), f32([4])]);
one('cross_entropy_grad', 'no rows', [f32([0, 3]), literal('i32', [], [0]), f32([0])]);
one('cross_entropy_grad', 'many', [f32([37, 1031], -5, 5), i32([37], -1, 1031), f32([37])], {}, fixed);

// ---- attention

one('rope_table', 'positions', [ids(0, 1, 7, 2, 4000), literal('f32', [1, 0.1, 0.01])], { scale: 1 });
one('rope_table', 'scaled', [ids(3), literal('f32', [0.5, 0.25, 0.125])], { scale: 1.25 });
one('rope_table', 'no rows', [literal('i32', [], [0]), f32([4])], { scale: 1 });
for (const interleaved of [0, 1]) {
  one(
    'rope',
    `whole head ${interleaved}`,
    [f32([5, 2, 6]), f32([5, 3]), f32([5, 3])],
    { interleaved },
    { constants: [1, 2] },
  );
  one(
    'rope',
    `part of the head ${interleaved}`,
    [f32([4, 3, 7]), f32([4, 2]), f32([4, 2])],
    { interleaved },
    { constants: [1, 2] },
  );
  one(
    'rope',
    `large ${interleaved}`,
    [f32([33, 4, 64]), f32([33, 32]), f32([33, 32])],
    { interleaved },
    fixed,
  );
  one(
    'rope',
    `no rows ${interleaved}`,
    [f32([0, 2, 4]), f32([0, 2]), f32([0, 2])],
    { interleaved },
    { constants: [1, 2] },
  );
}
interface Ragged {
  name: string;
  /** Heads, key groups, head size of keys and of values. */
  sizes: [h: number, g: number, c: number, cv: number];
  queries: number[];
  keys: number[];
  attrs?: Attrs;
  prefix?: number[];
  slopes?: boolean;
  sinks?: boolean;
  /** Entries of the position bias. */
  bias?: number;
}
const RAGGED: Ragged[] = [
  { name: 'one sequence', sizes: [2, 2, 4, 4], queries: [5], keys: [5] },
  { name: 'grouped heads, ragged', sizes: [4, 2, 3, 5], queries: [3, 1, 4], keys: [3, 1, 4] },
  { name: 'with a past', sizes: [2, 1, 4, 4], queries: [1, 2], keys: [6, 3] },
  { name: 'all keys seen', sizes: [2, 2, 4, 4], queries: [3, 2], keys: [3, 5], attrs: { causal: 0 } },
  { name: 'window', sizes: [2, 1, 4, 4], queries: [6, 2], keys: [6, 7], attrs: { window: 3 } },
  {
    name: 'window, all sides',
    sizes: [1, 1, 4, 2],
    queries: [4],
    keys: [6],
    attrs: { window: 2, causal: 0 },
  },
  { name: 'prefix', sizes: [2, 2, 4, 4], queries: [5, 4], keys: [5, 4], prefix: [3, 0] },
  {
    name: 'prefix and window',
    sizes: [2, 1, 4, 4],
    queries: [6],
    keys: [6],
    prefix: [2],
    attrs: { window: 2 },
  },
  { name: 'an empty sequence', sizes: [2, 1, 4, 4], queries: [2, 0, 3], keys: [2, 4, 3] },
  { name: 'more queries than keys', sizes: [1, 1, 4, 4], queries: [4], keys: [2] },
  { name: 'no keys', sizes: [2, 1, 4, 4], queries: [2, 1], keys: [0, 0] },
  { name: 'scale', sizes: [1, 1, 4, 4], queries: [3], keys: [3], attrs: { scale: 0.9 } },
  { name: 'nothing', sizes: [2, 1, 4, 4], queries: [0], keys: [3] },
  { name: 'one key head, narrow values', sizes: [4, 1, 9, 5], queries: [3, 1], keys: [3, 4] },
  { name: 'slopes', sizes: [4, 2, 3, 3], queries: [4, 1], keys: [4, 6], slopes: true },
  { name: 'sinks', sizes: [4, 2, 3, 3], queries: [4, 1], keys: [4, 6], sinks: true },
  { name: 'sinks, no keys', sizes: [2, 1, 4, 4], queries: [2, 1], keys: [0, 2], sinks: true },
  { name: 'bias', sizes: [4, 2, 3, 3], queries: [4, 2], keys: [4, 7], bias: 5, attrs: { left: 4 } },
  {
    name: 'bias on both sides',
    sizes: [2, 2, 3, 3],
    queries: [6],
    keys: [6],
    bias: 6,
    attrs: { left: 2, causal: 0 },
  },
  { name: 'bias far off', sizes: [2, 2, 3, 3], queries: [3], keys: [3], bias: 2, attrs: { left: 70 } }, // adds the same everywhere
  { name: 'softcap', sizes: [2, 1, 4, 4], queries: [4], keys: [5], attrs: { softcap: 0.7 } },
  {
    name: 'every term',
    sizes: [4, 2, 5, 3],
    queries: [5, 2],
    keys: [5, 30],
    prefix: [3, 0],
    slopes: true,
    sinks: true,
    bias: 9,
    attrs: { left: 7, softcap: 2, window: 12 },
  },
  { name: 'long', sizes: [4, 2, 20, 20], queries: [70, 1, 33], keys: [70, 150, 40] },
];
/** 0 and the running sums. */
function offsetsOf(lengths: readonly number[]): number[] {
  const offsets = [0];
  for (const n of lengths) offsets.push((offsets.at(-1) as number) + n);
  return offsets;
}
const total = (lengths: number[]): number => lengths.reduce((a, b) => a + b, 0);
const BLOCK = 16;
/** A cache of codes: for each page [channels · BLOCK] of them, and then BLOCK scales in f32. */
function codes(shape: Shape, pages: number, channels: number): TensorSpec {
  const page = (n: number): number[] => {
    const scales = Float32Array.from({ length: BLOCK }, (_, i) => 0.004 + 0.003 * ((7 * i + n) % 5));
    const values = Array.from({ length: channels * BLOCK }, (_, i) => (i * i * 31 + 17 * n + i) & 255);
    return [...values, ...new Uint8Array(scales.buffer)];
  };
  return literal('u8', Array.from({ length: pages }, (_, n) => page(n)).flat(), shape);
}
for (const { name, sizes, queries, keys, attrs = {}, prefix, slopes, sinks, bias } of RAGGED) {
  const [h, g, c, cv] = sizes;
  const [n, m] = [total(queries), total(keys)];
  const all = { scale: c ** -0.5, causal: 1, window: 0, softcap: 0, left: 0, ...attrs };
  const last = [
    prefix ? ids(...prefix) : null,
    slopes ? f32([h]) : null,
    sinks ? f32([h]) : null,
    bias ? f32([h, bias]) : null,
  ];
  const options = name === 'long' || name === 'bias far off' ? fixed : {};
  one(
    'attention',
    name,
    [
      f32([n, h, c]),
      f32([m, g, c]),
      f32([m, g, cv]),
      ids(...offsetsOf(queries)),
      ids(...offsetsOf(keys)),
      ...last,
    ],
    all,
    options,
  );
  if (queries.some((count, s) => count > (keys[s] as number))) continue; // new tokens are in the cache
  // Blocks of the sequences interleave: sequence s owns blocks s, s + S, s + 2S, …
  const most = Math.max(1, ...keys.map((k) => Math.ceil(k / BLOCK)));
  const table = keys.flatMap((k, s) =>
    Array.from({ length: most }, (_, b) => (b * BLOCK < k ? b * keys.length + s : -1)),
  );
  for (const dtype of ['f32', 'f16', 'bf16', 'u8'] as const) {
    const blocks = most * keys.length;
    const cache = (shape: Shape, channels: number): TensorSpec =>
      dtype === 'u8' ? codes(shape, blocks * g, channels) : ofType(dtype, shape);
    const paged = (label: string, v: TensorSpec | null): void =>
      one(
        'paged_attention',
        `${name} ${dtype}${label}`,
        [
          f32([n, h, c]),
          cache([blocks, g, storedChannels(dtype, c), BLOCK], c),
          v,
          ids(...offsetsOf(queries)),
          ids(...keys),
          literal('i32', table, [keys.length, most]),
          ...last,
        ],
        { ...all, values: v ? 0 : cv },
      );
    paged('', cache([blocks, g, BLOCK, storedChannels(dtype, cv)], cv));
    if (cv < c) paged(', values in keys', null);
  }
}
for (const dtype of ['f32', 'f16', 'bf16', 'u8'] as const) {
  for (const transpose of [0, 1]) {
    const name = transpose ? `${dtype} channels` : dtype;
    const write = (label: string, sizes: Shape, block: number, x: TensorSpec, slots: InputSpec): void => {
      const [blocks, g, c] = sizes as [number, number, number];
      const stored = storedChannels(dtype, c);
      const shape = transpose ? [blocks, g, stored, block] : [blocks, g, block, stored];
      const cache = dtype === 'u8' ? ofType('u8', shape, 0, 256) : ofType(dtype, shape);
      one('kv_write', `${name}${label}`, [cache, x, slots], { transpose });
    };
    write('', [3, 2, 5], 4, f32([4, 2, 5]), ids(0, 11, -1, 6));
    write(' twice in one place', [2, 3, 8], 4, f32([3, 3, 8]), ids(5, 2, 5));
    write(' nothing', [2, 1, 3], 4, f32([0, 1, 3]), literal('i32', [], [0]));
  }
}

for (const dtype of ['f32', 'f16', 'bf16', 'u8'] as const) {
  const cache = dtype === 'u8' ? ofType('u8', [4, 3, 5], 0, 256) : ofType(dtype, [4, 3, 5]);
  one('kv_copy', dtype, [cache, literal('i32', [0, 2, 3, 1], [2, 2])]);
  one('kv_copy', `${dtype} chained, skipped, onto itself`, [
    cache,
    literal('i32', [1, 0, -1, 2, 0, 3, 2, 2, 3, -1], [5, 2]),
  ]);
  one('kv_copy', `${dtype} nothing`, [cache, literal('i32', [], [0, 2])]);
}

// ---- random numbers, sampling

for (const op of ['random_uniform', 'random_normal']) {
  const tolerance = { relative: 2e-6, ofLargest: op === 'random_normal' ? 1e-6 : 0 };
  one(op, 'odd', [], { shape: [3, 7], seed: 1, offset: 0 }, { tolerance });
  one(op, 'far', [], { shape: [9], seed: 2 ** 40 + 5, offset: 2 ** 33 }, { tolerance });
  one(op, 'many', [], { shape: [5003], seed: 7, offset: 3 }, { tolerance });
  one(op, 'none', [], { shape: [0], seed: 7, offset: 0 }, { tolerance });
}
/** Chains by row, in turn, each over a history of its own. */
type Chain = (batch: ChainBatch) => void;
const chained = (
  name: string,
  rows: number,
  v: number,
  chains: readonly Chain[],
  logits?: InputSpec,
): void => {
  const batch = new ChainBatch();
  for (let r = 0; r < rows; r++) {
    const history = Int32Array.from({ length: r % 11 }, (_, i) => (i * i * 5 + (r % 5)) % Math.min(v, 6));
    batch.row({ history, seed: r * 7919 + 1, step: r }, chains[r % chains.length] as Chain);
  }
  const inputs = [
    logits ?? f32([rows, v], -4, 4),
    literal('i32', [...batch.rows], [rows, 6]),
    literal('i32', [...batch.data]),
  ];
  one('sample', name, inputs);
  one('process_logits', name, inputs);
};
const number =
  (kind: ChainKind, ...values: number[]): Chain =>
  (b) =>
    values.reduce((record, value) => record.number(value), b.begin(kind)).end();
const whole =
  (kind: ChainKind, value: number): Chain =>
  (b) =>
    b.begin(kind).int(value).end();
const listed =
  (kind: ChainKind, words: readonly number[]): Chain =>
  (b) =>
    b.begin(kind).list(words).end();
const all =
  (...parts: Chain[]): Chain =>
  (b) => {
    for (const part of parts) part(b);
  };
const greedy: Chain = (b) => b.begin('greedy').end();
const heat = (t: number): Chain => number('temperature', t);
const repeats: Chain = (b) => b.begin('repetitionPenalty').number(1.7).int(0).end();
const counted: Chain = (b) => b.begin('countPenalty').number(0.3).number(0.9).int(1).end();
const dry: Chain = (b) => b.begin('dry').number(0.8).number(1.75).int(1).int(0).list([4]).end();
const xtc: Chain = (b) => b.begin('xtc').number(0.05).number(0.5).int(1).end();
const bans = listed('tokenBias', [2, wordOf(-Infinity), 3, wordOf(1.5), 70000, wordOf(1)]);
const sequenced = listed('sequenceBias', [
  1,
  wordOf(2),
  1,
  2,
  wordOf(-Infinity),
  5,
  0,
  3,
  wordOf(3),
  1,
  0,
  4,
]);
const few = listed('tokenMask', [0b10110]);
const most = listed('tokenMask', [~0b1001, -1, -1]);
const filters: Readonly<Record<string, Chain>> = {
  'top k': whole('topK', 5),
  'top p': number('topP', 0.7),
  'top p of one': number('topP', 0),
  'min p': number('minP', 0.1),
  typical: number('typical', 0.6),
  'tail free': number('tailFree', 0.8),
  epsilon: number('epsilon', 0.03),
  eta: number('eta', 0.05),
  mirostat: number('mirostat', 4),
  xtc,
  'few allowed': few,
  'most allowed': most,
};
const edits: Readonly<Record<string, Chain>> = {
  'repetition penalty': repeats,
  counts: counted,
  dry,
  'n-grams': whole('noRepeatNgram', 2),
  'n-grams of one': whole('noRepeatNgram', 1),
  bias: bans,
  sequences: sequenced,
  forced: listed('forcedTokens', [1, 4]),
};
chained('no chain', 60, 9, [() => undefined]);
chained('no rows', 0, 9, [greedy]);
chained('one token', 3, 1, [heat(0.5), greedy, number('topP', 0.5)]);
chained('greedy', 4, 33, [greedy]);
chained('greedy with a penalty', 12, 12, [all(repeats, greedy)]);
chained('hot', 20, 50, [heat(2.5)]);
for (const [name, filter] of Object.entries(filters)) {
  chained(name, 40, 50, [
    filter,
    all(heat(0.8), filter),
    all(filter, heat(1.4)),
    all(filter, filters['top k'] as Chain),
  ]);
  chained(`${name}, large vocabulary`, 4, 20011, [filter, all(heat(0.3), filter)]);
}
for (const [name, edit] of Object.entries(edits)) {
  chained(name, 44, 17, [
    edit,
    all(heat(0.5), edit),
    all(edit, whole('topK', 3)),
    all(whole('topK', 8), edit),
  ]);
}
chained('every chain in one batch', 64, 40, [...Object.values(filters), ...Object.values(edits), greedy]);
chained('everything', 60, 31, [
  all(repeats, counted, dry, bans, heat(0.7), whole('topK', 12), number('topP', 0.9), number('minP', 0.05)),
  all(whole('topK', 12), number('topP', 0.9), heat(0.7), xtc),
  all(heat(1.3), heat(0.7), number('typical', 0.8), number('eta', 0.01)),
]);
chained('top k beyond the maxima of blocks', 3, 5003, [whole('topK', 700)]);
chained('flat, large vocabulary', 2, 40009, [number('topP', 0.9)], f32([2, 40009], -0.01, 0.01));
chained('ties', 1, 4, [greedy], literal('f32', [1, 3, 3, 0], [1, 4]));
chained('nothing left', 2, 3, [listed('tokenMask', [0])], f32([2, 3]));
chained(
  'removed before',
  3,
  6,
  [number('topP', 0.9), number('typical', 0.7), number('eta', 0.01)],
  literal('f32', [-inf, 1, -inf, 2, 0, -inf, -inf, -inf, -inf, -inf, 3, -inf, 1, 1, 1, 1, 1, -inf], [3, 6]),
);

const chosen = (
  name: string,
  rows: number,
  v: number,
  n: number,
  logits: InputSpec = f32([rows, v], -4, 4),
): void => one('token_logprobs', name, [logits, i32([rows], -1, v)], { n });
chosen('none likelier', 5, 7, 0);
chosen('top 3', 9, 33, 3);
chosen('all', 2, 12, 12);
chosen('many', 3, 1003, 300);
chosen('no rows', 0, 5, 2);
chosen('ties', 3, 4, 2, literal('f32', [1, 3, 3, 0, 2, 2, 2, 2, 0, 0, -inf, 1], [3, 4]));

// ---- mixture of experts

const allGroups = { groups: 1, topGroups: 1, groupScore: 0 };
for (const [score, name] of ['softmax', 'sigmoid', 'softmax of the chosen'].entries())
  for (const renormalize of [0, 1]) {
    const attrs = { score, renormalize, scale: 1, ...allGroups };
    one('route_top_k', `${name} ${renormalize}`, [f32([7, 8]), null], { ...attrs, k: 2 });
    one('route_top_k', `${name} ${renormalize} with bias, scaled`, [f32([5, 9]), f32([9], -0.3, 0.3)], {
      ...attrs,
      k: 3,
      scale: 2.5,
    });
  }
const route = { k: 2, score: 0, renormalize: 0, scale: 1, ...allGroups };
one('route_top_k', 'ties', [literal('f32', [1, 1, 1, 1, 0, 2, 2, 0], [2, 4]), null], route, fixed);
one('route_top_k', 'every expert', [f32([3, 4]), null], { ...route, k: 4 });
one('route_top_k', 'one expert', [f32([3, 1]), null], { ...route, k: 1, renormalize: 1 });
one('route_top_k', 'no rows', [f32([0, 4]), null], route);
one(
  'route_top_k',
  'many',
  [f32([67, 64]), f32([64], -0.1, 0.1)],
  { ...route, k: 8, score: 1, renormalize: 1 },
  fixed,
);
for (const score of [0, 1, 2])
  for (const groupScore of [0, 1]) {
    const limited = (
      name: string,
      n: number,
      e: number,
      k: number,
      groups: number,
      topGroups: number,
    ): void =>
      one('route_top_k', `${name}, score ${score}, group score ${groupScore}`, [f32([n, e]), null], {
        ...route,
        score,
        k,
        groups,
        topGroups,
        groupScore,
      });
    limited('two of four groups', 7, 12, 3, 4, 2);
    limited('more than a group holds', 5, 21, 7, 7, 3);
    limited('groups of one', 5, 6, 2, 6, 3);
    limited('all of the top groups', 3, 10, 4, 5, 2);
    limited('every group', 3, 8, 2, 4, 4);
    const biased = { ...route, score, k: 8, renormalize: 1, scale: 2.5, groups: 8, topGroups: 4, groupScore };
    const many = [f32([67, 256], -4, 4), f32([256], -0.1, 0.1)];
    one('route_top_k', `groups of many, score ${score}, group score ${groupScore}`, many, biased, fixed);
    one(
      'route_top_k',
      `ties of groups, score ${score}, group score ${groupScore}`,
      [
        literal(
          'f32',
          [1, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, -2, -1, 2, -1, 2, -1, -inf, -inf, 2, -inf, 2, -1],
          [4, 6],
        ),
        null,
      ],
      { ...route, score, k: 3, groups: 3, topGroups: 2, groupScore },
      fixed,
    );
  }

/** Stable counting sort of choices by expert, as literals. */
function plan(
  choices: readonly number[],
  k: number,
  experts: number,
): { offsets: TensorSpec; rowToken: TensorSpec; slotRow: TensorSpec } {
  const slots = Array.from({ length: experts }, (_, e) =>
    choices.flatMap((c, slot) => (c === e ? [slot] : [])),
  );
  const rows = slots.flat();
  return {
    offsets: ids(...offsetsOf(slots.map((s) => s.length))),
    rowToken: literal(
      'i32',
      choices.map((_, r) => (r < rows.length ? Math.floor((rows[r] as number) / k) : -1)),
    ),
    slotRow: literal(
      'i32',
      choices.map((_, slot) => rows.indexOf(slot)),
      [choices.length / k, k],
    ),
  };
}
const CHOICES: [string, number, number, number[]][] = [
  ['two of three', 2, 3, [0, 2, 2, 1, 0, 1, 2, 0]],
  ['with drops', 2, 3, [0, -1, 2, -1, -1, -1, 2, 0]],
  ['all to one expert', 1, 4, [2, 2, 2, 2, 2]],
  ['an empty expert', 2, 4, [0, 3, 3, 0, 0, 1]],
  ['everything dropped', 2, 2, [-1, -1, -1, -1]],
  ['one token', 1, 1, [0]],
  ['no tokens', 2, 3, []],
];
for (const [name, k, experts, choices] of CHOICES) {
  const n = choices.length / k;
  const rows = choices.length;
  const p = plan(choices, k, experts);
  one('moe_plan', name, [literal('i32', choices, [n, k])], { experts, rows });
  one('moe_combine', name, [f32([rows, 5]), p.slotRow, f32([n, k])]);
  one('moe_combine', `${name}, unweighted`, [f32([rows, 5]), p.slotRow, null]);
  one('moe_combine_grad', name, [f32([rows, 5]), p.slotRow, f32([n, 5])]);
  for (const [activation, gated] of [
    [0, true],
    [1, true],
    [2, false],
    [3, false],
  ] as const) {
    const gate = gated ? weight(7, 6, 'f32', experts) : null;
    one(
      'moe_experts',
      `${name}, activation ${activation}`,
      [
        f32([n, 6]),
        p.offsets,
        p.rowToken,
        p.slotRow,
        f32([n, k]),
        gate,
        weight(7, 6, 'f32', experts),
        weight(6, 7, 'f32', experts),
      ],
      { activation, limit: 0, slope: 0, compute: 0 },
      { tolerance: GRAPH_TOLERANCE },
    );
  }
  for (const [what, gated, biases, limit] of [
    ['all biases', true, [true, true, true], 0],
    ['a bias of gate alone', true, [true, false, false], 0],
    ['biases without a gate', false, [false, true, true], 0],
    ['clamped', true, [true, true, true], 0.7],
  ] as const)
    one(
      'moe_experts',
      `${name}, ${what}`,
      [
        f32([n, 6]),
        p.offsets,
        p.rowToken,
        p.slotRow,
        f32([n, k]),
        gated ? weight(7, 6, 'f32', experts) : null,
        weight(7, 6, 'f32', experts),
        weight(6, 7, 'f32', experts),
        ...biases.map((present, i) => (present ? f32([experts, i < 2 ? 7 : 6]) : null)),
      ],
      { activation: 0, limit, slope: limit === 0 ? 0 : 1.702, compute: 0 },
      { tolerance: GRAPH_TOLERANCE },
    );
}

one('checked_logits', 'odd sizes', [f32([7, 5])]);
one('checked_logits', 'no rows', [f32([0, 5])]);
one('checked_logits', 'an expert that is never chosen', [literal('f32', [0, -inf, 1], [1, 3])], {}, fixed);

// fewer rows than choices, as where experts choose, and more
const sparse = literal('i32', [-1, 1, -1, 2, -1, -1, 0, -1, 2], [3, 3]);
one('moe_plan', 'as many rows as are kept', [sparse], { experts: 3, rows: 4 });
one('moe_plan', 'more rows than choices', [sparse], { experts: 3, rows: 11 });
one('moe_plan', 'no room and no choice', [literal('i32', [-1, -1], [2, 1])], { experts: 2, rows: 0 });

/** Experts of each token by preference: a walk through 0 … experts - 1 from place to place, so that rankings differ and experts are contested. */
const rankings = (n: number, m: number, experts: number): TensorSpec =>
  literal(
    'i32',
    Array.from({ length: n * m }, (_, i) => ((Math.floor(i / m) ** 2 % 7) + (i % m)) % experts),
    [n, m],
  );
const backwards = (n: number, group: number): TensorSpec =>
  ids(...Array.from({ length: n }, (_, i) => group - 1 - (i % group)));
for (const [overflow, way, m] of [
  [0, 'drop', 2],
  [1, 'next best', 5],
] as const) {
  const capacity = (name: string, inputs: InputSpec[], attrs: Attrs): void =>
    one('moe_capacity', `${way}: ${name}`, inputs, { k: 2, overflow, experts: 5, ...attrs });
  capacity('one group', [rankings(12, m, 5), null], { capacity: 3, group: 12 });
  capacity('groups', [rankings(12, m, 5), null], { capacity: 2, group: 4 });
  capacity('backwards', [rankings(12, m, 5), backwards(12, 6)], { capacity: 2, group: 6 });
  capacity('a group a token', [rankings(5, m, 5), null], { capacity: 1, group: 1 });
  capacity('room for all', [rankings(9, m, 5), null], { capacity: 9, group: 9 });
  capacity('no room', [rankings(4, m, 5), null], { capacity: 0, group: 2 });
  capacity('no wish, one expert twice', [i32([9, m], -1, 2), null], { capacity: 3, group: 9 });
  capacity('no tokens', [literal('i32', [], [0, m]), null], { capacity: 1, group: 0 });
  capacity('many', [i32([900, m], -1, 33), backwards(900, 100)], { capacity: 4, group: 100, experts: 33 });
}
one('moe_capacity', 'next best of no more than k', [rankings(9, 2, 5), null], {
  k: 2,
  overflow: 1,
  experts: 5,
  capacity: 2,
  group: 9,
});
one('moe_capacity', 'all to one expert', [literal('i32', [3, 3, 3, 3, 3], [5, 1]), ids(4, 0, 2, 1, 3)], {
  k: 1,
  overflow: 0,
  experts: 4,
  capacity: 2,
  group: 5,
});

// Random scores have one best assignment. Equal sums: assignment.test.ts.
for (const [name, n, e, capacity] of [
  ['one token', 1, 1, 1],
  ['one expert', 5, 1, 5],
  ['no place to spare', 12, 4, 3],
  ['places to spare', 7, 3, 4],
  ['fewer tokens than experts', 5, 9, 1],
  ['room for all', 9, 5, 9],
  ['more room than tokens', 3, 5, 100],
  ['a token an expert', 33, 33, 1],
  ['many', 96, 17, 6],
  ['no tokens', 0, 4, 1],
] as const)
  one('balanced_assignment', name, [f32([n, e])], { capacity });
// A taste that all tokens share makes for long ways from expert to expert.
one(
  'balanced_assignment',
  'all want the same',
  [
    literal(
      'f32',
      Array.from({ length: 60 * 12 }, (_, i) => 3 * Math.cos(i % 12) + 0.5 * Math.sin(i * i)),
      [60, 12],
    ),
  ],
  { capacity: 5 },
);

/** Inputs of expert_layer after the plan: D 4, F 3, Dout 5. */
const LAYERS: [
  string,
  { gate: boolean; up: boolean; biases: boolean; activation: number; limit?: number; dropout: number },
][] = [
  ['SwiGLU', { gate: true, up: true, biases: false, activation: 0, dropout: 0 }],
  ['biases and dropout', { gate: true, up: true, biases: true, activation: 1, dropout: 0.4 }],
  ['no gate', { gate: false, up: true, biases: false, activation: 2, dropout: 0.4 }],
  ['no gate, biases', { gate: false, up: true, biases: true, activation: 0, dropout: 0 }],
  ['clamped', { gate: true, up: true, biases: true, activation: 0, limit: 0.7, dropout: 0 }],
  ['linear', { gate: false, up: false, biases: false, activation: 0, dropout: 0 }],
  ['linear, biases', { gate: false, up: false, biases: true, activation: 0, dropout: 0 }],
];
for (const [name, k, experts, choices] of CHOICES)
  for (const [kind, { gate, up, biases, activation, limit = 0, dropout }] of LAYERS) {
    const slope = limit === 0 ? 0 : 1.702;
    const n = choices.length / k;
    const p = plan(choices, k, experts);
    const matrix = (used: boolean): InputSpec => (used ? f32([experts, 3, 4], -1, 1) : null);
    const bias = (used: boolean, width: number): InputSpec =>
      used && biases ? f32([experts, width], -1, 1) : null;
    one(
      'expert_layer',
      `${name}, ${kind}`,
      [
        f32([n, 4]),
        p.offsets,
        p.rowToken,
        p.slotRow,
        f32([n, k], 0, 1),
        matrix(gate),
        matrix(up),
        f32([experts, 5, up ? 3 : 4], -1, 1),
        bias(gate, 3),
        bias(up, 3),
        bias(true, 5),
      ],
      { activation, limit, slope, dropout, seed: 11, offset: 4 },
      { tolerance: GRAPH_TOLERANCE },
    );
  }
const many = Array.from({ length: 120 }, (_, i) => (i * i * 7 + (i >> 2)) % 9);
const manyPlan = plan(many, 2, 9);
one('moe_plan', 'many', [i32([500, 4], -1, 16)], { experts: 16, rows: 2000 });
one('moe_combine', 'many', [f32([120, 257]), manyPlan.slotRow, f32([60, 2])], {}, fixed);
one('moe_combine_grad', 'many', [f32([120, 257]), manyPlan.slotRow, f32([60, 257])], {}, fixed);
for (const [format, compute] of [
  ['f32', 0],
  ['q8_0', 0],
  ['q8_0', 2],
  ['q4_k', 2],
  ['bf16', 1],
] as const) {
  const tolerance = [GRAPH_TOLERANCE, COMPUTE_TOLERANCE.bf16, COMPUTE_TOLERANCE.int8][compute];
  const size = format === 'q4_k' ? 256 : 64;
  one(
    'moe_experts',
    `many ${format} compute ${compute}`,
    [
      f32([60, size]),
      manyPlan.offsets,
      manyPlan.rowToken,
      manyPlan.slotRow,
      f32([60, 2]),
      weight(size, size, format, 9),
      weight(size, size, format, 9),
      weight(size, size, format, 9),
    ],
    { activation: 0, limit: 0, slope: 0, compute },
    { ...fixed, tolerance },
  );
}

export const casesOf = (op: string): OpCase[] => CASES.filter((c) => c.op === op);
