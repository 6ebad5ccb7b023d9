/** Capacity by hand: four tokens, two experts, who gets a slot and who does not. */
import { describe, expect, it } from 'vitest';
import { tensor } from '../../src/core/tensor.js';
import { applyCapacity, checkCapacity } from '../../src/moe/capacity.js';
import * as moe from '../../src/moe/index.js';
import { routeLogits, rowsOf } from '../helpers/moe.js';

const SEQUENCES = 2;
/** All four tokens want expert 0, the third most of all. */
const LOGITS = [
  [1, 0],
  [2, 0],
  [9, 0],
  [3, 0],
];

interface Case {
  name: string;
  options: moe.CapacityOptions;
  topK: number;
  ids: number[][];
}
const CASES: Case[] = [
  {
    name: 'drop in token order, all tokens one group',
    options: { slots: 2, group: 'batch' },
    topK: 1,
    ids: [[0], [0], [-1], [-1]],
  },
  {
    name: 'drop by probability',
    options: { slots: 2, group: 'batch', priority: 'probability' },
    topK: 1,
    ids: [[-1], [-1], [0], [0]],
  },
  { name: 'each sequence has its own slots', options: { slots: 1 }, topK: 1, ids: [[0], [-1], [0], [-1]] },
  {
    name: 'each sequence by probability',
    options: { slots: 1, priority: 'probability' },
    topK: 1,
    ids: [[-1], [0], [0], [-1]],
  },
  {
    name: 'runs of one token',
    options: { slots: 1, group: 1 },
    topK: 1,
    ids: [[0], [0], [0], [0]],
  },
  {
    name: 'factor 1: ceil(2 · 1 / 2) slots a sequence',
    options: { factor: 1 },
    topK: 1,
    ids: [[0], [-1], [0], [-1]],
  },
  {
    name: 'factor 0.4 rounded down: no slots',
    options: { factor: 0.4, rounding: 'floor' },
    topK: 1,
    ids: [[-1], [-1], [-1], [-1]],
  },
  {
    name: 'factor 0.4 rounded down, at least one',
    options: { factor: 0.4, rounding: 'floor', minimum: 1 },
    topK: 1,
    ids: [[0], [-1], [0], [-1]],
  },
  {
    name: 'next-best in token order',
    options: { slots: 2, group: 'batch', overflow: 'next-best' },
    topK: 1,
    ids: [[0], [0], [1], [1]],
  },
  {
    name: 'next-best by probability',
    options: { slots: 2, group: 'batch', overflow: 'next-best', priority: 'probability' },
    topK: 1,
    ids: [[1], [1], [0], [0]],
  },
  {
    name: 'next-best with all slots taken: the residual',
    options: { slots: 1, group: 'batch', overflow: 'next-best' },
    topK: 1,
    ids: [[0], [1], [-1], [-1]],
  },
  {
    name: 'first choices before second choices',
    options: { slots: 3, group: 'batch' },
    topK: 2,
    ids: [
      [0, 1],
      [0, 1],
      [0, 1],
      [-1, -1],
    ],
  },
  {
    name: 'next-best takes what is left of two wishes',
    options: { slots: 3, group: 'batch', overflow: 'next-best' },
    topK: 2,
    ids: [
      [0, 1],
      [0, 1],
      [0, 1],
      [-1, -1],
    ],
  },
];

const policy = moe.gating.softmaxTopK({ renormalize: false });
const routed = (topK: number): moe.SparseRouting => {
  const routing = routeLogits(policy, LOGITS, { topK });
  if (routing.kind !== 'sparse') throw new Error(`got ${routing.kind}`);
  return routing;
};
const setup = { nExperts: 2, sequences: SEQUENCES, policy: policy.name };

describe('four tokens that want one expert', () => {
  it.each(CASES.map((c) => [c.name, c] as const))('%s', async (_, { options, topK, ids }) => {
    const kept = applyCapacity(routed(topK), checkCapacity(options), setup);
    const [got, weights] = await rowsOf(kept.expertIds, kept.combineWeights);
    expect(got).toEqual(ids);
    expect(got?.flat().filter((e) => e >= 0).length).toBeLessThanOrEqual(kept.rows as number);
    // a token's weight is its probability of the expert it got
    ids.forEach((row, t) => {
      row.forEach((e, i) => {
        if (e < 0) return;
        const p = 1 / (1 + Math.exp((LOGITS[t]?.[1 - e] as number) - (LOGITS[t]?.[e] as number)));
        expect(weights?.[t]?.[i]).toBeCloseTo(p, 5);
      });
    });
  });
});

it('a share of the tokens rounds up, or down', async () => {
  const ids = async (options: moe.CapacityOptions) =>
    (await rowsOf(applyCapacity(routed(1), checkCapacity(options), setup).expertIds))[0]?.flat();
  expect(await ids({ tokenShare: 0.3, group: 'batch' })).toEqual([0, 0, -1, -1]);
  expect(await ids({ tokenShare: 0.3, group: 'batch', rounding: 'floor' })).toEqual([0, -1, -1, -1]);
  expect(await ids({ tokenShare: 0.3 })).toEqual([0, -1, 0, -1]);
  expect(await ids({ tokenShare: 1 })).toEqual([0, 0, 0, 0]);
});

it('kept choices take over the weight of those that are dropped', async () => {
  const options = { slots: 3, group: 'batch', renormalize: true } as const;
  const scaled = moe.gating.softmaxTopK({ renormalize: true, scale: 2 });
  // tokens 0 and 1 prefer expert 1, the others expert 0: of the second choices only one finds room with each
  const logits = [
    [0, 1],
    [0, 2],
    [9, 0],
    [3, 0],
  ];
  const routing = routeLogits(scaled, logits, { topK: 2 }) as moe.SparseRouting;
  const kept = applyCapacity(routing, checkCapacity(options), setup);
  const [ids, weights] = await rowsOf(kept.expertIds, kept.combineWeights);
  expect(ids).toEqual([
    [1, 0],
    [1, -1],
    [0, 1],
    [0, -1],
  ]);
  expect(weights?.[1]).toEqual([2, 0]);
  expect(weights?.[3]).toEqual([2, 0]);
  for (const row of weights ?? []) expect((row[0] as number) + (row[1] as number)).toBeCloseTo(2, 5);
  const none = applyCapacity(routing, { slots: 0, renormalize: true }, setup);
  expect((await rowsOf(none.combineWeights))[0]?.flat()).toEqual(Array(8).fill(0));
});

describe('what capacity refuses', () => {
  const wrong: [moe.CapacityOptions, RegExp][] = [
    [{}, /got no size, expected one of factor, slots, tokenShare/],
    [{ factor: 1, slots: 2 }, /got factor and slots, expected one of/],
    [{ slots: 1, tokenShare: 0.5 }, /got slots and tokenShare, expected one of/],
    [{ tokenShare: 0 }, /got tokenShare 0, expected a number above 0/],
    [{ slots: 1, renormalize: true, overflow: 'next-best' }, /renormalize.*expected 'drop'/],
    [{ factor: 0 }, /got factor 0, expected a number above 0/],
    [{ factor: Number.NaN }, /got factor NaN/],
    [{ slots: 1.5 }, /got slots 1.5/],
    [{ slots: -1 }, /got slots -1/],
    [{ slots: 1, minimum: -1 }, /got minimum -1/],
    [{ slots: 1, group: 0 }, /got group '0'/],
    [{ slots: 1, group: 'token' as never }, /got group 'token'/],
    [{ slots: 1, overflow: 'next' as never }, /got overflow 'next', expected drop, next-best/],
    [{ slots: 1, priority: 'random' as never }, /got priority 'random'/],
    [{ slots: 1, rounding: 'up' as never }, /got rounding 'up'/],
    [{ slot: 1 } as never, /got 'slot', expected one of/],
  ];
  it.each(wrong)('%j', (options, message) => {
    expect(() => checkCapacity(options)).toThrow(message);
  });

  it('groups that do not divide the tokens', () => {
    expect(() => applyCapacity(routed(1), { slots: 1, group: 3 }, setup)).toThrow(
      /got 4 tokens in groups of 3, expected a multiple of it/,
    );
  });

  it.each([
    [moe.gating.groupLimitedGreedy({ groups: 2, topGroups: 1 }), false],
    [moe.gating.sigmoidTopK({ groups: 2, topGroups: 1 }), false],
    [moe.gating.stMoeTop2(), true], // it would undo the random choice of the second expert
    [moe.gating.base(), true], // it would unbalance the assignment
    [moe.gating.expertChoice(), false],
    [moe.gating.dense(), false],
    [moe.gating.hash({ table: [0] }), false],
    [moe.gating.random(), false],
  ] as const)('next-best of a policy that ranks no further experts: $0.name', (gating, training) => {
    const layer = new moe.MoELayer({
      dModel: 2,
      dFf: 2,
      nExperts: 4,
      ...(gating.topK ? {} : { topK: 2 }),
      gating,
      capacity: { factor: 1, overflow: 'next-best' },
    });
    expect(() => layer.forward(tensor([[1, 2]]), { training, tokenIds: tensor(Int32Array.of(0)) })).toThrow(
      `'next-best' for gating '${gating.name}', which ranks no further experts`,
    );
  });

  it('a capacity where nothing is dispatched', () => {
    const layer = new moe.MoELayer({
      dModel: 2,
      dFf: 2,
      nExperts: 4,
      gating: 'soft-moe',
      capacity: { factor: 1 },
    });
    expect(() => layer.forward(tensor([[1, 2]]))).toThrow(/got a capacity for gating 'soft-moe'/);
  });
});
