// Softmax, norms, losses.
import { f32, i32, ids, literal, type OpCase } from '../../helpers/op-case.js';
import { GRAPH_TOLERANCE } from '../../helpers/tolerance.js';
import { fixed, into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);
const { POSITIVE_INFINITY: inf } = Number;

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
