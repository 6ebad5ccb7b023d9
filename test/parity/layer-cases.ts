/** How the reference layers are built with our API, by the case's name in cases.json. Sizes and options come from there. */

import * as ops from '../../src/core/ops/index.js';
import {
  type Activation,
  add,
  cast,
  div,
  less,
  maximum,
  mul,
  sigmoid,
  softmax,
  square,
  sub,
  where,
} from '../../src/core/ops/index.js';
import type { Tensor } from '../../src/core/tensor.js';
import type { Weight } from '../../src/core/weight.js';
import { smoothLoad } from '../../src/moe/gating/noisy-top-k.js';
import { sinkhornPlan } from '../../src/moe/gating/sinkhorn.js';
import * as moe from '../../src/moe/index.js';
import { FeedForward } from '../../src/nn/feed-forward.js';
import { Linear } from '../../src/nn/linear.js';
import { FFN } from './ffn.js';

export interface LayerCase {
  readonly name: string;
  readonly parameters: {
    readonly tokens: number;
    readonly experts: number;
    readonly width: number;
    readonly inner: number;
    readonly ffn: string;
    readonly [option: string]: number | string | boolean;
  };
  readonly tensors: Readonly<Record<string, readonly number[]>>;
}

/** The stored inputs of a case; `expert` gives them packed where the packed path is meant. */
export interface Inputs {
  tensor(name: string): Tensor;
  expert(name: string): Tensor | Weight;
}

export interface Built {
  /** By the names of the file; `y` or `loss` is what gradients are of. */
  readonly outputs: Readonly<Record<string, Tensor>>;
  /** The file lists the chosen experts of a token by number, ours by falling weight. */
  readonly sortedByExpert?: boolean;
}
export type Build = (c: LayerCase, inputs: Inputs) => Built;

const number = (c: LayerCase, name: string): number => c.parameters[name] as number;

function feedForward(c: LayerCase, { tensor: input }: Inputs): Built {
  const [activation, gated] = FFN[c.parameters.ffn] as [Activation, boolean];
  const [first, second] = [new Linear(input('w1')), new Linear(input('w2'))];
  const layer = new FeedForward(
    gated ? first : null,
    gated ? new Linear(input('w3')) : first,
    second,
    activation,
  );
  return { outputs: { y: layer.forward(input('x')) } };
}

/** Whether the file holds an input or result of that name. */
const has = (c: LayerCase, name: string): boolean => name in c.tensors;

interface LayerSetup {
  readonly gating: moe.Gating;
  readonly topK?: number;
  readonly capacity?: moe.CapacityOptions;
  readonly forward?: moe.MoEForwardOptions;
  readonly selectionBias?: Tensor;
  readonly router?: Tensor;
}

/** The layer of a case and one pass through it. */
function runLayer(c: LayerCase, inputs: Inputs, setup: LayerSetup): moe.MoEOutput {
  const [activation, gated] = FFN[c.parameters.ffn] as [Activation, boolean];
  const { tensor: input, expert } = inputs;
  const { width: dModel, inner: dFf, experts: nExperts } = c.parameters;
  const linear = (name: string): moe.LinearParameters => ({ weight: input(name) });
  const shared = has(c, 'in.s1')
    ? {
        gate: gated ? linear('s1') : null,
        up: linear(gated ? 's3' : 's1'),
        down: linear('s2'),
        outputGate: has(c, 'in.wsg') ? { weight: ops.reshape(input('wsg'), [1, dModel]) } : null,
      }
    : null;
  const router = setup.router ?? (has(c, 'in.wg') ? input('wg') : null);
  const parameters: moe.MoEParameters = {
    router: router && { weight: router },
    experts: { gate: gated ? expert('w1') : null, up: expert(gated ? 'w3' : 'w1'), down: expert('w2') },
    shared,
    selectionBias: setup.selectionBias ?? null,
    ...(has(c, 'in.wn') ? { gating: { noise: input('wn') } } : {}),
  };
  const { topK, capacity = null, gating } = setup;
  const options = { dModel, dFf, nExperts, gating, activation, capacity };
  const layer = new moe.MoELayer(topK === undefined ? options : { ...options, topK }, parameters);
  return layer.forward(input('x'), setup.forward);
}

const sparsePlan = (plan: moe.RoutingPlan): moe.SparsePlan => {
  if (plan.kind !== 'sparse') throw new Error(`got a plan of kind ${plan.kind}`);
  return plan;
};

/** Results that sparse cases store, as far as this one does. */
function sparseOutputs(c: LayerCase, { output, plan: any }: moe.MoEOutput): Record<string, Tensor> {
  const plan = sparsePlan(any);
  const { expertIds, expertOffsets, slotRow } = plan;
  const [n, k] = expertIds.shape as [number, number];
  const first = ops.takeRows(expertOffsets, ops.reshape(maximum(expertIds, 0), [n * k]));
  const place = sub(slotRow, ops.reshape(first, [n, k]));
  const all: Record<string, Tensor> = {
    y: output,
    logits: plan.routerLogits,
    weights: plan.combineWeights,
    experts: expertIds,
    wished: plan.wishedIds,
    slot: ops.reshape(where(less(expertIds, 0), ops.full([], -1, 'i32'), place), [n * k]),
    tokens_per_expert: sub(ops.slice(expertOffsets, 0, 1), ops.slice(expertOffsets, 0, 0, -1)),
    gates: moe.gateMatrix(expertIds, plan.combineWeights, c.parameters.experts),
  };
  return Object.fromEntries(Object.entries(all).filter(([name]) => has(c, `out.${name}`)));
}

/** A sparse layer whose results are all of the common kind. */
const sparse =
  (setup: (c: LayerCase, inputs: Inputs) => LayerSetup, sortedByExpert = false): Build =>
  (c, inputs) => ({
    outputs: sparseOutputs(c, runLayer(c, inputs, setup(c, inputs))),
    sortedByExpert,
  });

const softmaxTopK = sparse(
  (c) => ({
    gating: moe.gating.softmaxTopK({ renormalize: c.parameters.renormalise === true }),
    topK: number(c, 'k'),
  }),
  true,
);

const nextBest = sparse((c) => ({
  gating: moe.gating.softmaxTopK({ renormalize: c.parameters.renormalise === true }),
  topK: number(c, 'k'),
  capacity: { slots: number(c, 'capacity'), overflow: 'next-best' },
}));

/** The noise of the file instead of drawn numbers. */
const given = (noise: Tensor): moe.NoiseSource => ({ ...moe.seededNoise(0), normal: () => noise });

const noisy: Build = (c, inputs) => {
  const { tensor: input } = inputs;
  const result = runLayer(c, inputs, {
    gating: moe.gating.noisyTopK(),
    topK: number(c, 'k'),
    forward: { training: true, noise: given(input('noise')) },
  });
  const plan = sparsePlan(result.plan);
  return {
    outputs: {
      ...sparseOutputs(c, result),
      noisy_logits: plan.selectionLogits as Tensor,
      importance: ops.sum(moe.gateMatrix(plan.wishedIds, plan.combineWeights, c.parameters.experts), 0),
      load: plan.smoothLoad as Tensor,
      loss_importance: result.losses.importance,
      loss_load: result.losses.load,
    },
  };
};

const cvLoad: Build = (c, { tensor: input }) => {
  const product = (w: string): Tensor => ops.matmul(input('x'), input(w), { transposeB: true });
  const clean = product('wg');
  const std = ops.softplus(product('wn'));
  const load = smoothLoad(clean, add(clean, mul(input('noise'), std)), std, number(c, 'k'));
  return { outputs: { load, loss: mul(moe.loadLoss(load), number(c, 'weight')) } };
};

/** The choice that a policy makes of stored logits. */
function choose(c: LayerCase, gating: moe.Gating, logits: Tensor): moe.SparseRouting {
  const [n] = logits.shape as [number];
  const routing = gating.route(logits, {
    x: ops.zeros([n, 1]),
    sequences: 1,
    nExperts: c.parameters.experts,
    topK: number(c, 'k'),
    selectionBias: null,
    parameters: {},
    tokenIds: null,
    training: false,
    noise: moe.seededNoise(0),
  });
  if (routing.kind !== 'sparse') throw new Error(`got a routing of kind ${routing.kind}`);
  return routing;
}

const cvImportance: Build = (c, { tensor: input }) => {
  const { expertIds, combineWeights } = choose(c, moe.gating.topKSoftmax(), input('logits'));
  const gates = moe.gateMatrix(expertIds, combineWeights, c.parameters.experts);
  const loss = mul(moe.importanceLoss(gates), number(c, 'weight'));
  return { outputs: { gates, importance: ops.sum(gates, 0), loss } };
};

/** A balance loss of stored logits; f and p of `parts` devices (or experts) as the file has them. */
const balance =
  (
    lossOf: (c: LayerCase, choices: moe.Choices) => Tensor,
    partsOf: (c: LayerCase, choices: moe.Choices) => Record<string, Tensor>,
  ): Build =>
  (c, { tensor: input }) => {
    const choices = choose(c, moe.gating.softmaxTopK(), input('logits'));
    const loss = mul(lossOf(c, choices), number(c, 'alpha'));
    return { outputs: { loss, ...partsOf(c, choices) } };
  };
const tokensOf = (choices: moe.Choices): number => choices.probabilities.shape[0] as number;
const meanProbability = (choices: moe.Choices): Tensor => ops.mean(choices.probabilities, 0);
const switchLoss = balance(
  (_, choices) => moe.switchLoss(choices),
  (c, choices) => ({
    f: div(moe.choiceCounts(choices.expertIds, c.parameters.experts), tokensOf(choices)),
    p: meanProbability(choices),
  }),
);

const adaptive: Build = (_, { tensor: input }) => {
  const [x, a, b] = [input('x'), input('a'), input('b')];
  const outputs = moe.expertOutputs(x, { gate: null, up: null, down: a, downBias: b });
  const logits = ops.matmul(x, input('wg'), { transposeB: true });
  const m = moe.adaptiveMixtureLoss(logits, outputs, input('target'));
  return {
    outputs: {
      loss: m.loss,
      gates: softmax(logits),
      outputs,
      posterior: m.posterior,
      per_case: m.perCase,
      loss_blend: m.blend,
      loss_competitive: m.competitive,
    },
  };
};

const biasFree: Build = (c, inputs) => {
  const setup = (selectionBias: Tensor): LayerSetup => ({
    gating: moe.gating.sigmoidTopK({ scale: number(c, 'scale') }),
    topK: number(c, 'k'),
    selectionBias,
  });
  let bias = inputs.tensor('bias');
  const passes = Array.from({ length: number(c, 'steps') }, () => {
    const result = runLayer(c, inputs, setup(bias));
    const plan = sparsePlan(result.plan);
    bias = moe.updateSelectionBias(bias, plan.wishedIds, { rate: number(c, 'rate') });
    return { result, plan, bias, count: moe.choiceCounts(plan.wishedIds, c.parameters.experts) };
  });
  const [first] = passes as [(typeof passes)[0]];
  return {
    outputs: {
      y: first.result.output,
      weights: first.plan.combineWeights,
      experts: ops.stack(passes.map((p) => p.plan.expertIds)),
      bias_after: ops.stack(passes.map((p) => p.bias)),
      count: cast(ops.stack(passes.map((p) => p.count)), 'i32'),
      scores: sigmoid(first.plan.routerLogits),
    },
    sortedByExpert: true,
  };
};

const groupScores = (c: LayerCase, scores: Tensor, rule: 'max' | 'top2sum'): Tensor => {
  const groups = number(c, 'groups');
  const split = ops.reshape(scores, [c.parameters.tokens, groups, c.parameters.experts / groups]);
  return rule === 'max' ? ops.max(split, 2) : ops.sum(ops.topK(split, 2).values, 2);
};

const groupLimited =
  (rule: 'max' | 'top2sum'): Build =>
  (c, inputs) => {
    const limit = {
      groups: number(c, 'groups'),
      topGroups: number(c, 'topk_group'),
      scale: number(c, 'scale'),
    };
    const bias = rule === 'max' ? null : inputs.tensor('bias');
    const gating = rule === 'max' ? moe.gating.groupLimitedGreedy(limit) : moe.gating.sigmoidTopK(limit);
    const result = runLayer(c, inputs, {
      gating,
      topK: number(c, 'k'),
      ...(bias ? { selectionBias: bias } : {}),
    });
    const logits = sparsePlan(result.plan).routerLogits;
    const ranked = bias ? add(sigmoid(logits), bias) : logits;
    return {
      outputs: { ...sparseOutputs(c, result), group_scores: groupScores(c, ranked, rule) },
      sortedByExpert: true,
    };
  };

const expertChoice: Build = (c, inputs) => {
  const result = runLayer(c, inputs, { gating: moe.gating.expertChoice({ factor: number(c, 'factor') }) });
  const plan = sparsePlan(result.plan);
  const taken = ops.cast(ops.greaterEqual(plan.expertIds, 0), 'i32');
  return {
    outputs: {
      y: result.output,
      scores: plan.combineWeights,
      taken: ops.reshape(plan.rowToken, [c.parameters.experts, number(c, 'capacity')]),
      experts_per_token: ops.sum(taken, 1),
    },
  };
};

const softMoe: Build = (c, inputs) => {
  const { output, plan } = runLayer(c, inputs, {
    gating: moe.gating.softMoe({ slots: number(c, 'slots') }),
    router: ops.transpose(inputs.tensor('phi')),
  });
  if (plan.kind !== 'soft') throw new Error(`got a plan of kind ${plan.kind}`);
  const flat = (t: Tensor): Tensor => ops.reshape(t, t.shape.slice(1));
  const dispatch = flat(plan.dispatch);
  return {
    outputs: {
      y: output,
      dispatch,
      combine: flat(plan.combine),
      slot_inputs: ops.matmul(ops.transpose(dispatch), inputs.tensor('x')),
    },
  };
};

const softMerging: Build = (c, inputs) => {
  const { output, plan } = runLayer(c, inputs, { gating: moe.gating.softMerging() });
  if (plan.kind !== 'merged') throw new Error(`got a plan of kind ${plan.kind}`);
  return { outputs: { y: output, share: plan.shares } };
};

const sinkhorn: Build = (c, inputs) => {
  const rounds = number(c, 'rounds');
  const result = runLayer(c, inputs, {
    gating: moe.gating.sinkhorn({ rounds }),
    forward: { training: true },
  });
  const balanced = sinkhornPlan(sparsePlan(result.plan).routerLogits, rounds);
  return { outputs: { ...sparseOutputs(c, result), balanced } };
};

const sequenceBalance: Build = (c, { tensor: input }) => {
  const [batch, length] = [number(c, 'batch'), number(c, 'length')];
  const { experts } = c.parameters;
  const choices = choose(
    c,
    moe.gating.sigmoidTopK(),
    ops.reshape(input('logits'), [batch * length, experts]),
  );
  const hits = ops.sum(
    ops.reshape(ops.oneHot(choices.expertIds, experts), [batch, length * number(c, 'k'), experts]),
    1,
  );
  return {
    outputs: {
      loss: mul(moe.sequenceBalanceLoss(choices, batch), number(c, 'alpha')),
      f: mul(hits, experts / (number(c, 'k') * length)),
      p: ops.mean(ops.reshape(choices.probabilities, [batch, length, experts]), 1),
    },
  };
};

const routerZ: Build = (c, { tensor: input }) => ({
  outputs: {
    loss: mul(moe.routerZLoss(input('logits')), number(c, 'coefficient')),
    per_token: square(ops.logSumExp(input('logits'))),
  },
});

const expertShares = (c: LayerCase, choices: moe.Choices): Tensor =>
  mul(
    moe.choiceCounts(choices.expertIds, c.parameters.experts),
    c.parameters.experts / (number(c, 'k') * tokensOf(choices)),
  );
const byDevice = (c: LayerCase, t: Tensor): Tensor =>
  ops.reshape(t, [number(c, 'devices'), c.parameters.experts / number(c, 'devices')]);
const reached = (c: LayerCase, choices: moe.Choices): Tensor => {
  const chosen = ops.max(ops.oneHot(choices.expertIds, c.parameters.experts), 1);
  const devices = number(c, 'devices');
  const hit = ops.max(ops.reshape(chosen, [tokensOf(choices), devices, c.parameters.experts / devices]), 2);
  return mul(ops.sum(hit, 0), devices / (number(c, 'M') * tokensOf(choices)));
};

const hashed = sparse((_, { tensor: input }) => {
  const table = input('table').source;
  if (table.kind !== 'host') throw new Error('the table is read from a file');
  return {
    gating: moe.gating.hash({ table: Int32Array.from(table.data) }),
    forward: { tokenIds: input('token_ids') },
  };
});

export const BUILT: Readonly<Record<string, Build>> = {
  topk_softmax_then_topk: softmaxTopK,
  topk_softmax_then_topk_renorm: softmaxTopK,
  topk_then_softmax: sparse((c) => ({ gating: moe.gating.topKSoftmax(), topK: number(c, 'k') }), true),
  noisy_keep_topk: noisy,
  loss_cv_load: cvLoad,
  loss_cv_importance: cvImportance,
  switch_top1_capacity: sparse((c) => ({
    gating: moe.gating.switchTop1(),
    capacity: { factor: number(c, 'factor') },
  })),
  top2_overflow_next_best_scarce: nextBest,
  top2_overflow_next_best: nextBest,
  top2_overflow_next_best_renorm: nextBest,
  top1_overflow_next_best: nextBest,
  top2_first_choices_first: sparse((c) => ({
    gating: moe.gating.stMoeTop2(),
    capacity: { slots: number(c, 'capacity') },
  })),
  expert_choice: expertChoice,
  soft_moe: softMoe,
  soft_merging: softMerging,
  dense_moe: sparse(() => ({ gating: moe.gating.dense() })),
  adaptive_mixture_1991: adaptive,
  sinkhorn_top1: sinkhorn,
  aux_loss_free_bias: biasFree,
  group_limited_max: groupLimited('max'),
  group_limited_top2sum: groupLimited('top2sum'),
  shared_expert_plain: sparse(
    (c) => ({
      gating: moe.gating.softmaxTopK({ renormalize: false }),
      topK: number(c, 'k'),
    }),
    true,
  ),
  shared_expert_gated: sparse(
    (c) => ({
      gating: moe.gating.softmaxTopK({ renormalize: false }),
      topK: number(c, 'k'),
    }),
    true,
  ),
  hash_routing: hashed,
  loss_switch_top1: switchLoss,
  loss_switch_top2: switchLoss,
  loss_router_z: routerZ,
  loss_deepseek_expert: balance(
    (_, choices) => moe.expertBalanceLoss(choices),
    (c, choices) => ({ f: expertShares(c, choices), p: meanProbability(choices) }),
  ),
  loss_deepseek_device: balance(
    (c, choices) => moe.deviceBalanceLoss(choices, number(c, 'devices')),
    (c, choices) => ({
      f: ops.mean(byDevice(c, expertShares(c, choices)), 1),
      p: ops.sum(byDevice(c, meanProbability(choices)), 1),
    }),
  ),
  loss_deepseek_communication: balance(
    (c, choices) => moe.communicationBalanceLoss(choices, number(c, 'devices'), number(c, 'M')),
    (c, choices) => ({ f: reached(c, choices), p: ops.sum(byDevice(c, meanProbability(choices)), 1) }),
  ),
  loss_deepseek_sequence: sequenceBalance,
  ...Object.fromEntries(Object.keys(FFN).map((ffn) => [`ffn_${ffn}`, feedForward])),
};
