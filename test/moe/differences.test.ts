/** Gradients through whole layers and losses, for every policy: central differences in float64 on the twins. */
import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/core/autograd.js';
import * as ops from '../../src/core/ops/index.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { treeLeaves } from '../../src/core/tree.js';
import * as moe from '../../src/moe/index.js';
import { checkDifferences, project, randomTensor } from '../helpers/differences.js';
import { layerParameters, SIZES } from '../helpers/moe.js';

const { gating } = moe;
const [BATCH, TIME] = [2, 3];
const tokenIds = tensor(Int32Array.of(3, 1, 4, 1, 5, 9), [BATCH, TIME]);

interface Setup {
  readonly policy: moe.Gating;
  readonly topK?: number;
  readonly training?: boolean;
  readonly capacity?: moe.CapacityOptions;
  readonly dropout?: number;
  readonly bias?: Tensor;
}

/** Every policy by its name, in the forms that take other ways through the code. */
const SETUPS: Record<string, Setup> = {
  'softmax-top-k': { policy: gating.softmaxTopK(), topK: 2 },
  'softmax-top-k, not renormalised': {
    policy: gating.softmaxTopK({ renormalize: false, scale: 3 }),
    topK: 2,
  },
  'softmax-top-k, all experts': { policy: gating.softmaxTopK(), topK: 4 },
  'top-k-softmax': { policy: gating.topKSoftmax(), topK: 3 },
  'noisy-top-k': { policy: gating.noisyTopK({ noiseFloor: 0.1 }), topK: 2, training: true },
  'sparse-mixer': { policy: gating.sparseMixer({ jitter: 0.5 }), topK: 2 },
  'switch-top-1': { policy: gating.switchTop1({ jitter: 0.2 }), training: true },
  'switch-top-1, dropped tokens': { policy: gating.switchTop1(), capacity: { slots: 1 } },
  'st-moe-top-2': { policy: gating.stMoeTop2({ secondThreshold: 0.5, jitter: 0.1 }), training: true },
  'sigmoid-top-k': {
    policy: gating.sigmoidTopK({ groups: 2, topGroups: 1, scale: 2.5 }),
    topK: 2,
    bias: tensor([0.1, -0.2, 0.3, 0]),
  },
  'group-limited-greedy': { policy: gating.groupLimitedGreedy({ groups: 2, topGroups: 1 }), topK: 2 },
  'expert-choice': { policy: gating.expertChoice({ factor: 1 }) },
  'expert-choice by sequence': { policy: gating.expertChoice({ factor: 2, group: 'sequence' }) },
  dense: { policy: gating.dense() },
  'soft-moe': { policy: gating.softMoe({ slots: 2 }) },
  'soft-merging': { policy: gating.softMerging() },
  sinkhorn: { policy: gating.sinkhorn(), training: true },
  base: { policy: gating.base(), training: true },
  hash: { policy: gating.hash({ seed: 3 }) },
  random: { policy: gating.random(), topK: 2 },
  'adaptive-mixture': { policy: gating.adaptiveMixture() },
  'next-best': {
    policy: gating.softmaxTopK(),
    topK: 2,
    capacity: { factor: 1, overflow: 'next-best', priority: 'probability' },
  },
  'next-best of a softmax over the chosen': {
    policy: gating.topKSoftmax(),
    topK: 2,
    capacity: { slots: 1, overflow: 'next-best' },
  },
  'expert dropout': { policy: gating.softmaxTopK(), topK: 2, training: true, dropout: 0.4 },
};

function run(
  { policy, topK, training = false, capacity, dropout = 0, bias }: Setup,
  { gated = true, shared = false } = {},
): { x: Tensor; parameters: moe.MoEParameters; result: moe.MoEOutput } {
  const parameters = { ...layerParameters(policy, { gated, shared }), selectionBias: bias ?? null };
  const layer = new moe.MoELayer(
    {
      ...SIZES,
      gating: policy,
      ...(topK === undefined ? {} : { topK }),
      capacity: capacity ?? null,
      expertDropout: dropout,
      activation: gated ? 'silu' : 'gelu',
    },
    parameters,
  );
  const x = randomTensor([BATCH, TIME, SIZES.dModel], 7);
  return { x, parameters, result: layer.forward(x, { training, seed: 11, tokenIds }) };
}

/** Everything that gradients reach: x and all parameters but the selection bias. */
const leavesOf = (x: Tensor, { selectionBias: _, ...rest }: Partial<moe.MoEParameters>): Tensor[] => [
  x,
  ...treeLeaves(rest),
];

describe('every policy has a setup', () => {
  it.each(moe.gatingNames)('%s', (name) => {
    expect(Object.values(SETUPS).some(({ policy }) => policy.name === name)).toBe(true);
  });
});

describe('layers', () => {
  it.each(Object.entries(SETUPS))('%s', (_, setup) => {
    const { x, parameters, result } = run(setup);
    const loss = project([result.output]);
    const wrt = leavesOf(x, parameters);
    checkDifferences(loss, wrt, gradients(loss, wrt));
  });

  it.each([
    ['experts without gates, shared experts behind a sigmoid', { gated: false, shared: true }],
    ['gated experts and shared experts', { gated: true, shared: true }],
  ])('%s', (_, form) => {
    const { x, parameters, result } = run({ policy: gating.softmaxTopK(), topK: 2 }, form);
    const loss = project([result.output]);
    const wrt = leavesOf(x, parameters);
    checkDifferences(loss, wrt, gradients(loss, wrt));
  });
});

const LOSSES: Record<string, (losses: moe.LayerLosses) => Tensor> = {
  loadBalancing: (l) => l.loadBalancing,
  importance: (l) => l.importance,
  expertBalance: (l) => l.expertBalance,
  sequenceBalance: (l) => l.sequenceBalance,
  deviceBalance: (l) => l.deviceBalance(2),
  communicationBalance: (l) => l.communicationBalance(2, 1),
  routerZ: (l) => l.routerZ,
  total: (l) => l.total({ loadBalancing: 0.3, routerZ: 0.1, importance: 0.2 }),
};

describe('losses', () => {
  const routed = Object.entries(SETUPS).filter(
    ([, { policy }]) => policy.outputsPerExpert === undefined && policy.name !== 'soft-merging',
  );
  describe.each(Object.entries(LOSSES))('%s', (_, lossOf) => {
    it.each(routed)('%s', (_, setup) => {
      const { x, parameters, result } = run(setup);
      const loss = lossOf(result.losses);
      const wrt = leavesOf(x, { router: parameters.router, gating: parameters.gating ?? {} });
      checkDifferences(loss, wrt, gradients(loss, wrt));
    });
  });

  it.each([1, 2, 3])('load under noise, k = %i', (topK) => {
    const { x, parameters, result } = run({ ...(SETUPS['noisy-top-k'] as Setup), topK });
    const loss = result.losses.load;
    const wrt = leavesOf(x, { router: parameters.router, gating: parameters.gating ?? {} });
    checkDifferences(loss, wrt, gradients(loss, wrt));
  });

  it('the mixture of 1991: loss, blend and competitive error', () => {
    const x = randomTensor([4, 5], 1);
    const [router, a, b] = [randomTensor([3, 5], 2), randomTensor([3, 2, 5], 3), randomTensor([3, 2], 4)];
    const outputs = moe.expertOutputs(x, { gate: null, up: null, down: a, downBias: b });
    const logits = ops.matmul(x, router, { transposeB: true });
    const { loss, blend, competitive } = moe.adaptiveMixtureLoss(logits, outputs, randomTensor([4, 2], 5));
    for (const value of [loss, blend, competitive])
      checkDifferences(value, [x, router, a, b], gradients(value, [x, router, a, b]));
  });
});
