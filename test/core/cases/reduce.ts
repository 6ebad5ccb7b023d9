// Reductions, scans, order.
import { f32, i32, literal, type OpCase } from '../../helpers/op-case.js';
import { GRAPH_TOLERANCE } from '../../helpers/tolerance.js';
import { fixed, into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);
const { NaN: nan, POSITIVE_INFINITY: inf } = Number;

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
