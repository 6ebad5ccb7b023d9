// Ops that move values.
import { bool, f32, i32, type OpCase, ofType } from '../../helpers/op-case.js';
import { fixed, into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);

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
