/** Hand-drawn routing: 4 tokens and 2 experts with literal logits, and the ids and weights they must give. */
import { describe, expect, it } from 'vitest';
import { tensor } from '../../src/core/tensor.js';
import * as moe from '../../src/moe/index.js';
import { routeLogits, rowsOf } from '../helpers/moe.js';

const { gating } = moe;
const LN3 = Math.log(3);
/** Softmax (¼, ¾), (½, ½), (¾, ¼), (¾, ¼). */
const LOGITS = [
  [0, LN3],
  [1, 1],
  [LN3, 0],
  [LN3 - 5, -5],
];
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const noiseOf = (...numbers: number[]): moe.NoiseSource => ({
  ...moe.seededNoise(0),
  uniform: (shape) => tensor(Float32Array.from(numbers), shape),
  normal: (shape) => tensor(Float32Array.from(numbers), shape),
});

interface Case {
  name: string;
  policy: moe.Gating;
  context?: Partial<moe.GatingContext>;
  ids: number[][];
  weights: number[][];
}

const CASES: Case[] = [
  {
    name: 'softmax-top-k, k = 1 without renormalising',
    policy: gating.softmaxTopK({ renormalize: false }),
    ids: [[1], [0], [0], [0]],
    weights: [[0.75], [0.5], [0.75], [0.75]],
  },
  {
    name: 'softmax-top-k, k = 2, scaled',
    policy: gating.softmaxTopK({ scale: 2 }),
    context: { topK: 2 },
    ids: [
      [1, 0],
      [0, 1],
      [0, 1],
      [0, 1],
    ],
    weights: [
      [1.5, 0.5],
      [1, 1],
      [1.5, 0.5],
      [1.5, 0.5],
    ],
  },
  {
    name: 'softmax-top-k, a bias moves the choice and not the weight',
    policy: gating.softmaxTopK({ renormalize: false }),
    context: { selectionBias: tensor([0, 0.6]) },
    ids: [[1], [1], [1], [1]],
    weights: [[0.75], [0.5], [0.25], [0.25]],
  },
  {
    name: 'top-k-softmax, one kept logit has weight 1',
    policy: gating.topKSoftmax(),
    ids: [[1], [0], [0], [0]],
    weights: [[1], [1], [1], [1]],
  },
  {
    // the second expert is alone once the first has gone; near the first where the logits are equal
    name: 'sparse-mixer, two experts',
    policy: gating.sparseMixer({ jitter: 0.1 }),
    context: { topK: 2 },
    ids: [
      [1, 0],
      [0, 1],
      [0, 1],
      [0, 1],
    ],
    weights: [
      [1, 1],
      [0.5, 1],
      [1, 1],
      [1, 1],
    ],
  },
  {
    // (ln 3 - 0) / ln 3 = 1, (ln 3 - 5 - (-5)) / 5 = 0.22
    name: 'sparse-mixer, a logit takes part up to 2 · jitter of its size',
    policy: gating.sparseMixer({ jitter: 0.2 }),
    ids: [[1], [0], [0], [0]],
    weights: [[1], [0.5], [1], [0.75]],
  },
  {
    name: 'noisy-top-k without training has no noise',
    policy: gating.noisyTopK(),
    context: { topK: 2, parameters: { noise: tensor([[1], [1]]) }, noise: noiseOf(9, 9, 9, 9, 9, 9, 9, 9) },
    ids: [
      [1, 0],
      [0, 1],
      [0, 1],
      [0, 1],
    ],
    weights: [
      [0.75, 0.25],
      [0.5, 0.5],
      [0.75, 0.25],
      [0.75, 0.25],
    ],
  },
  {
    name: 'noisy-top-k in training: the noise is scaled by softplus(0) = ln 2',
    policy: gating.noisyTopK(),
    context: {
      topK: 1,
      training: true,
      parameters: { noise: tensor([[1], [1]]) },
      noise: noiseOf(2, 0, 0, 1, -2, 0, 0, 0),
    },
    ids: [[0], [1], [1], [0]],
    weights: [[1], [1], [1], [1]],
  },
  {
    name: 'switch-top-1',
    policy: gating.switchTop1(),
    ids: [[1], [0], [0], [0]],
    weights: [[0.75], [0.5], [0.75], [0.75]],
  },
  {
    name: 'st-moe-top-2 keeps both outside of training',
    policy: gating.stMoeTop2(),
    ids: [
      [1, 0],
      [0, 1],
      [0, 1],
      [0, 1],
    ],
    weights: [
      [0.75, 0.25],
      [0.5, 0.5],
      [0.75, 0.25],
      [0.75, 0.25],
    ],
  },
  {
    name: 'st-moe-top-2 in training: the second stays where u · threshold < g₂; the first always',
    policy: gating.stMoeTop2({ secondThreshold: 0.5 }),
    context: { training: true, noise: noiseOf(0.99, 0.49, 0.99, 0.99, 0.99, 0.51, 0.99, 0) },
    ids: [
      [1, 0],
      [0, 1],
      [0, -1],
      [0, 1],
    ],
    weights: [
      [0.75, 0.25],
      [0.5, 0.5],
      [0.75, 0.25],
      [0.75, 0.25],
    ],
  },
  {
    name: 'sigmoid-top-k divides by the sum',
    policy: gating.sigmoidTopK({ scale: 2.5 }),
    context: { selectionBias: tensor([0.5, 0]) },
    ids: [[0], [0], [0], [0]],
    weights: [[2.5], [2.5], [2.5], [2.5]],
  },
  {
    name: 'sigmoid-top-k without dividing',
    policy: gating.sigmoidTopK({ renormalize: false }),
    ids: [[1], [0], [0], [0]],
    weights: [[sigmoid(LN3)], [sigmoid(1)], [sigmoid(LN3)], [sigmoid(LN3 - 5)]],
  },
  {
    name: 'group-limited-greedy, a group for each expert',
    policy: gating.groupLimitedGreedy({ groups: 2, topGroups: 1, scale: 4 }),
    ids: [[1], [0], [0], [0]],
    weights: [[3], [2], [3], [3]],
  },
  {
    name: 'expert-choice: two tokens an expert, ties to the earlier token',
    policy: gating.expertChoice({ factor: 1 }),
    ids: [
      [-1, 1],
      [-1, 1],
      [0, -1],
      [0, -1],
    ],
    weights: [
      [0.25, 0.75],
      [0.5, 0.5],
      [0.75, 0.25],
      [0.75, 0.25],
    ],
  },
  {
    name: 'dense: every expert, by its probability',
    policy: gating.dense(),
    ids: [
      [0, 1],
      [0, 1],
      [0, 1],
      [0, 1],
    ],
    weights: [
      [0.25, 0.75],
      [0.5, 0.5],
      [0.75, 0.25],
      [0.75, 0.25],
    ],
  },
  {
    name: 'sinkhorn in training: two tokens an expert, the least sure one moves',
    policy: gating.sinkhorn({ rounds: 50 }),
    context: { training: true },
    ids: [[1], [1], [0], [0]],
    weights: [[sigmoid(LN3)], [sigmoid(1)], [sigmoid(LN3)], [sigmoid(LN3 - 5)]],
  },
  {
    name: 'base in training: balanced with the largest sum of scores',
    policy: gating.base(),
    context: { training: true },
    ids: [[1], [1], [0], [0]],
    weights: [[sigmoid(LN3)], [sigmoid(1)], [sigmoid(LN3)], [sigmoid(LN3 - 5)]],
  },
  ...(['sinkhorn', 'base'] as const).map((name) => ({
    name: `${name} outside of training: the best expert of each token alone`,
    policy: gating[name](),
    ids: [[1], [0], [0], [0]],
    weights: [[sigmoid(LN3)], [sigmoid(1)], [sigmoid(LN3)], [sigmoid(LN3 - 5)]],
  })),
  {
    name: 'hash with a table',
    policy: gating.hash({ table: [1, 0, 1] }),
    context: { tokenIds: tensor(Int32Array.of(0, 1, 2, 2)) },
    ids: [[1], [0], [1], [1]],
    weights: [[1], [1], [1], [1]],
  },
  {
    name: 'random: the experts with the largest numbers',
    policy: gating.random(),
    context: { noise: noiseOf(0.1, 0.2, 0.9, 0.3, 0.5, 0.5, 0, 0.4) },
    ids: [[1], [0], [0], [1]],
    weights: [[1], [1], [1], [1]],
  },
];

const expectNear = (got: number[] | undefined, want: number[]): void => {
  expect(got?.length).toBe(want.length);
  for (const [i, x] of (got ?? []).entries()) expect(x).toBeCloseTo(want[i] as number, 5);
};

describe('four tokens and two experts', () => {
  it.each(CASES.map((c) => [c.name, c] as const))('%s', async (_, { policy, context, ids, weights }) => {
    const routing = routeLogits(policy, LOGITS, context);
    if (routing.kind !== 'sparse') throw new Error(`got ${routing.kind}`);
    const [gotIds, gotWeights, probabilities] = await rowsOf(
      routing.expertIds,
      routing.combineWeights,
      routing.probabilities,
    );
    expect(gotIds).toEqual(ids);
    expectNear(gotWeights?.flat(), weights.flat());
    for (const row of probabilities as number[][]) expect(row.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
  });

  it('soft-moe: columns of dispatch sum to 1 over tokens, rows of combine over slots', async () => {
    const routing = routeLogits(gating.softMoe({ slots: 1 }), LOGITS, { sequences: 2 });
    if (routing.kind !== 'soft') throw new Error(`got ${routing.kind}`);
    const [dispatch, combine] = await rowsOf(routing.dispatch, routing.combine);
    // sequence 0 holds tokens 0 and 1: e^0 against e^1, 3 against e
    const e = Math.E;
    expectNear(dispatch?.[0], [1 / (1 + e), 3 / (3 + e)]);
    expectNear(dispatch?.[1], [e / (1 + e), e / (3 + e)]);
    expectNear(combine?.[0], [0.25, 0.75]);
    expectNear(combine?.[3], [0.75, 0.25]);
  });

  it('soft-merging: the mean of the probabilities of a sequence', async () => {
    const routing = routeLogits(gating.softMerging(), LOGITS, { sequences: 2 });
    if (routing.kind !== 'merged') throw new Error(`got ${routing.kind}`);
    const [shares] = await rowsOf(routing.shares);
    expect(shares?.flat().map((x) => Number(x.toFixed(5)))).toEqual([0.375, 0.625, 0.75, 0.25]);
  });

  it('the seeded hash spreads token ids over all experts, the same at each call', async () => {
    const tokenIds = tensor(Int32Array.from({ length: 4096 }, (_, i) => i));
    const logits = Array.from({ length: 4096 }, () => new Array<number>(7).fill(0));
    const ids = async (seed: number): Promise<number[]> => {
      const routing = routeLogits(gating.hash({ seed }), logits, { tokenIds, nExperts: 7 });
      if (routing.kind !== 'sparse') throw new Error(`got ${routing.kind}`);
      return ((await rowsOf(routing.expertIds))[0] as number[][]).flat();
    };
    const [first, again, other] = [await ids(1), await ids(1), await ids(2)];
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
    const { tokensPerExpert, cv } = moe.loadStatistics(first, 7);
    expect(Math.min(...tokensPerExpert)).toBeGreaterThan(400); // 585 each on average
    expect(cv).toBeLessThan(0.2);
  });
});

describe('ties go to the lower index', () => {
  const even = [new Array<number>(6).fill(0.5), new Array<number>(6).fill(0.5)];
  const policies = [
    gating.softmaxTopK(),
    gating.topKSoftmax(),
    gating.sigmoidTopK(),
    gating.sigmoidTopK({ groups: 3, topGroups: 2 }),
    gating.groupLimitedGreedy({ groups: 3, topGroups: 2 }),
  ];
  it.each(policies.map((p, i) => [`${p.name} (${i})`, p] as const))('%s', async (_, policy) => {
    const routing = routeLogits(policy, even, { topK: 3 });
    if (routing.kind !== 'sparse') throw new Error(`got ${routing.kind}`);
    expect((await rowsOf(routing.expertIds))[0]).toEqual([
      [0, 1, 2],
      [0, 1, 2],
    ]);
  });
  it('experts that choose take the earlier tokens', async () => {
    const routing = routeLogits(gating.expertChoice({ factor: 1 }), [[0], [0], [0]]);
    if (routing.kind !== 'sparse') throw new Error(`got ${routing.kind}`);
    expect((await rowsOf(routing.expertIds))[0]).toEqual([[0], [0], [0]]);
  });
});

describe('what policies refuse', () => {
  it('unknown options, with the nearest name', () => {
    expect(() => gating.softmaxTopK({ renormalise: true } as object)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION', hint: "did you mean 'renormalize'?" }),
    );
    expect(() => gating.dense({ slots: 2 } as never)).toThrow(/got 'slots', expected no options/);
  });
  it('an unknown policy, with the nearest name', () => {
    expect(() => moe.resolveGating('softmax-topk' as never)).toThrow(
      expect.objectContaining({ hint: "did you mean 'softmax-top-k'?" }),
    );
    expect(() => moe.resolveGating('constructor' as never)).toThrow(/\[gating\] got 'constructor'/);
  });
  it('hash without token ids, or with a table of other experts', () => {
    expect(() => routeLogits(gating.hash(), [[0, 0]])).toThrow(/\[hash\] got no token ids/);
    const tokenIds = tensor(Int32Array.of(0));
    expect(() => routeLogits(gating.hash({ table: [2] }), [[0, 0]], { tokenIds })).toThrow(
      /\[hash\] got expert 2 in the table, expected 0 to 1/,
    );
  });
  it.each([
    ['softmax-top-k', () => gating.softmaxTopK({ scale: -1 }), 'scale -1, expected a number ≥ 0'],
    ['noisy-top-k', () => gating.noisyTopK({ noiseFloor: Number.NaN }), 'noiseFloor NaN'],
    ['switch-top-1', () => gating.switchTop1({ jitter: 2 }), 'jitter 2, expected a number from 0 to 1'],
    ['st-moe-top-2', () => gating.stMoeTop2({ secondThreshold: Number.NaN }), 'secondThreshold NaN'],
    ['st-moe-top-2', () => gating.stMoeTop2({ jitter: -0.1 }), 'jitter -0.1'],
    ['sigmoid-top-k', () => gating.sigmoidTopK({ groups: 1.5 }), 'groups 1.5, expected a whole number ≥ 1'],
    ['group-limited-greedy', () => gating.groupLimitedGreedy({ topGroups: 0 }), 'topGroups 0'],
    ['expert-choice', () => gating.expertChoice({ factor: -1 }), 'factor -1'],
    ['soft-moe', () => gating.softMoe({ slots: 0 }), 'slots 0'],
    ['sinkhorn', () => gating.sinkhorn({ rounds: 0 }), 'rounds 0'],
    ['hash', () => gating.hash({ seed: -1 }), 'seed -1'],
  ] as const)('%s: a number out of range (%#)', (name, make, got) => {
    expect(make).toThrow(`[${name}] got ${got}`);
  });
  it('a group that is none', () => {
    expect(() => gating.expertChoice({ group: 'token' as never })).toThrow(/got group 'token'/);
  });
});
