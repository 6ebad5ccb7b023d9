// Elementwise ops, casts and constants.
import { DTYPES, type DType, dtypeCode } from '../../../src/core/dtype.js';
import type { Shape } from '../../../src/core/shape.js';
import { bool, f32, i32, literal, type OpCase, ofType, type TensorSpec } from '../../helpers/op-case.js';
import { fixed, into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);
const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
const LOWEST = -2147483648;

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
