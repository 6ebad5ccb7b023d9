// Places of experts: capacities and balanced assignments.
import type { Attrs } from '../../../src/core/op.js';
import {
  f32,
  type InputSpec,
  i32,
  ids,
  literal,
  type OpCase,
  type TensorSpec,
} from '../../helpers/op-case.js';
import { into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);

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
