// Gathers and scatters.
import { f32, i32, ids, literal, type OpCase, ofType } from '../../helpers/op-case.js';
import { fixed, into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);

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
