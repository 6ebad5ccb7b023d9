// Which experts a token chooses.
import { f32, literal, type OpCase } from '../../helpers/op-case.js';
import { fixed, into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);
const { POSITIVE_INFINITY: inf } = Number;

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

one('checked_logits', 'odd sizes', [f32([7, 5])]);
one('checked_logits', 'no rows', [f32([0, 5])]);
one('checked_logits', 'an expert that is never chosen', [literal('f32', [0, -inf, 1], [1, 3])], {}, fixed);
