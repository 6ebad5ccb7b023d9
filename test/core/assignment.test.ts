/** Options and errors of the ops that give out places, and balanced assignments where several are best. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { assignCapacity, balancedAssignment } from '../../src/core/ops/assignment.js';
import { moePlan, routeTopK } from '../../src/core/ops/routing.js';
import { Tensor } from '../../src/core/tensor.js';
import { cheapestColumns } from '../helpers/interpreter/routing.js';
import type { Value } from '../helpers/interpreter/value.js';
import { deviceOf, runGraph, tiers } from '../helpers/run-graph.js';

const f32 = (shape: number[], values: number[]): Tensor =>
  Tensor.ofHost(Float32Array.from(values), 'f32', shape);
const i32 = (shape: number[], values: number[]): Tensor =>
  Tensor.ofHost(Int32Array.from(values), 'i32', shape);
async function numbers(t: Tensor, tier = 'scalar' as ReturnType<typeof tiers>[number]): Promise<number[]> {
  const [result] = await runGraph(deviceOf(tier), [t]);
  return Array.from((result as { value: Value }).value.data);
}

describe('balancedAssignment', () => {
  it('reaches the best sum within the capacity, also where sums are equal', async () => {
    const problem = fc
      .record({
        n: fc.integer({ min: 1, max: 14 }),
        e: fc.integer({ min: 1, max: 6 }),
        spare: fc.integer({ min: 0, max: 2 }),
      })
      .chain(({ n, e, spare }) =>
        fc.record({
          n: fc.constant(n),
          e: fc.constant(e),
          capacity: fc.constant(Math.ceil(n / e) + spare),
          // few values, so that most problems have several best assignments; quarters add up exactly
          scores: fc.array(
            fc.integer({ min: -4, max: 4 }).map((q) => q / 4),
            { minLength: n * e, maxLength: n * e },
          ),
        }),
      );
    await fc.assert(
      fc.asyncProperty(problem, async ({ n, e, capacity, scores }) => {
        const score = (token: number, expert: number): number => scores[token * e + expert] as number;
        const sum = (experts: readonly number[]): number =>
          experts.reduce((total, expert, token) => total + score(token, expert), 0);
        const best = cheapestColumns(
          n,
          e * capacity,
          (token, place) => -score(token, Math.floor(place / capacity)),
        );
        for (const tier of tiers()) {
          const got = await numbers(balancedAssignment(f32([n, e], scores), { capacity }), tier);
          for (let expert = 0; expert < e; expert++)
            expect(got.filter((x) => x === expert).length).toBeLessThanOrEqual(capacity);
          expect(sum(got)).toBe(sum(best.map((place) => Math.floor(place / capacity))));
        }
      }),
      { seed: 7, numRuns: 60 },
    );
  });

  it('fills the lower of equal experts first, and equal tokens keep their places', async () => {
    expect(await numbers(balancedAssignment(f32([5, 3], new Array(15).fill(0.25))))).toEqual([0, 0, 1, 1, 2]);
    // every token gains as much at expert 1: the first two stay there
    expect(await numbers(balancedAssignment(f32([4, 2], [0, 1, 0, 1, 0, 1, 0, 1])))).toEqual([1, 1, 0, 0]);
  });

  it('refuses scores that are not finite, and more tokens than places', async () => {
    for (const bad of [NaN, Infinity, -Infinity])
      await expect(numbers(balancedAssignment(f32([2, 2], [0, 0, 0, bad])))).rejects.toThrow(
        /\[balanced_assignment\] got score .*(nan|inf) for token 1 and expert 1, expected a finite number/,
      );
    expect(() => balancedAssignment(f32([5, 2], new Array(10).fill(0)), { capacity: 2 })).toThrow(
      '[balanced_assignment] got tokens 5, expected a whole number from 0 to 4',
    );
    expect(() => balancedAssignment(f32([1, 2], [0, 0]), { capacity: 0 })).toThrow('got capacity 0');
  });
});

describe('assignCapacity', () => {
  const ranking = i32([4, 2], [0, 1, 0, 1, 1, 0, 1, 0]);

  it('serves choice by choice, or token by token', async () => {
    const sizes = { experts: 2, k: 2, capacity: 2 };
    expect(await numbers(assignCapacity(ranking, sizes))).toEqual([0, -1, 0, -1, 1, -1, 1, -1]);
    const order = i32([4], [3, 0, 1, 2]);
    expect(await numbers(assignCapacity(ranking, { ...sizes, overflow: 'next-best', order }))).toEqual([
      0, 1, -1, -1, -1, -1, 1, 0,
    ]);
    const one = { experts: 2, k: 1, capacity: 1, group: 2, overflow: 'next-best' } as const;
    expect(await numbers(assignCapacity(ranking, one))).toEqual([0, 1, 1, 0]);
  });

  it('names what does not fit', async () => {
    const sizes = { experts: 2, k: 2, capacity: 2 };
    expect(() => assignCapacity(ranking, { ...sizes, group: 3 })).toThrow(
      'got 4 tokens, expected a multiple',
    );
    expect(() => assignCapacity(ranking, { ...sizes, k: 1 })).toThrow(
      'got choices in the ranking of a token 2',
    );
    expect(() => assignCapacity(ranking, { ...sizes, k: 3, overflow: 'next-best' })).toThrow('got k 3');
    expect(() => assignCapacity(ranking, { ...sizes, overflow: 'keep' as never })).toThrow(
      "[moe_capacity] got overflow 'keep', expected drop or next-best",
    );
    const order = i32([4], [0, 1, 2, 2]);
    await expect(numbers(assignCapacity(ranking, { ...sizes, order }))).rejects.toThrow(
      /got 2 at place 3 of the order/,
    );
    await expect(numbers(assignCapacity(ranking, { ...sizes, experts: 1 }))).rejects.toThrow(
      /got expert 1 for token 0/,
    );
  });
});

describe('routeTopK', () => {
  const logits = f32([1, 6], [0, 1, 2, 3, 4, 5]);

  it('names groups that do not fit', () => {
    expect(() => routeTopK(logits, { k: 1, groups: 4 })).toThrow('got 4 groups of 6 experts');
    expect(() => routeTopK(logits, { k: 1, groups: 3, topGroups: 4 })).toThrow('got topGroups 4');
    expect(() => routeTopK(logits, { k: 3, groups: 3, topGroups: 1 })).toThrow('got k 3');
    expect(() => routeTopK(logits, { k: 1, groupScore: 'mean' as never })).toThrow("got groupScore 'mean'");
    expect(() => routeTopK(logits, { k: 1, score: 'tanh' as never })).toThrow("got score 'tanh'");
  });
});

describe('moePlan', () => {
  it('names the choices that are too many for its rows', async () => {
    const chosen = i32([2, 2], [0, 1, -1, 1]);
    expect(await numbers(moePlan(chosen, 2, { rows: 3 }).rowToken)).toEqual([0, 0, 1]);
    await expect(numbers(moePlan(chosen, 2, { rows: 2 }).rowToken)).rejects.toThrow(
      /\[moe_plan\] got 3 choices that are not -1, expected at most 2 rows/,
    );
  });
});
