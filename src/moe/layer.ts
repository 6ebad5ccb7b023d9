import { checkOptions, checkWhole, SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import type { RuntimeInt } from '../core/op.js';
import { type Activation, add, cast, full, mul, sigmoid, where, zeros } from '../core/ops/elementwise.js';
import type { GateClamp } from '../core/ops/hidden.js';
import { moePlan } from '../core/ops/routing.js';
import { reshape } from '../core/ops/shape.js';
import { sizeOf } from '../core/shape.js';
import { Tensor } from '../core/tensor.js';
import { FeedForward } from '../nn/feed-forward.js';
import { Linear } from '../nn/linear.js';
import { applyCapacity, type CapacityOptions, checkCapacity } from './capacity.js';
import { checkDropout, runExperts, runMerged, runSlots } from './experts.js';
import {
  type Gating,
  type GatingContext,
  type GatingName,
  type NoiseSource,
  resolveGating,
  type SparseRouting,
  seededNoise,
} from './gating/index.js';
import { LayerLosses } from './layer-losses.js';
import {
  checkParameters,
  type LinearParameters,
  type MoEParameters,
  type MoESizes,
  randomParameters,
  type SharedParameters,
} from './parameters.js';
import type { RoutingPlan, SparsePlan } from './plan.js';
import { runSplit } from './split-experts.js';

export interface MoELayerOptions {
  /** Residual width D. */
  dModel: number;
  /** Inner width F of one expert. */
  dFf: number;
  nExperts: number;
  /** Experts per token, K. Not needed for policies that fix it. */
  topK?: number;
  /** Policy name or object. Default 'softmax-top-k'. */
  gating?: GatingName | Gating;
  /** Default 'silu'. */
  activation?: Activation;
  /** Bounds on gate and up, and another slope of the sigmoid (gpt-oss); only with 'silu' and a gate. Default: none. */
  clamp?: GateClamp | null;
  /** Experts with a gate: down(act(gate(x)) · up(x)), else down(act(up(x))). Default true (SwiGLU, GEGLU). */
  gated?: boolean;
  /** Experts with biases. Default false. */
  bias?: boolean;
  /** Default: none, every choice is kept (dropless). */
  capacity?: CapacityOptions | null;
  /** Experts that every token meets besides. Default 0. */
  nSharedExperts?: number;
  /** Their width together. Default nSharedExperts · dFf. */
  dFfShared?: number;
  /** Multiply the shared output by sigmoid(x · w) (Qwen2-MoE). Default false. */
  sharedGate?: boolean;
  /** A bias on the scores for the choice only, zero at first; see `updateSelectionBias`. Default false. */
  selectionBias?: boolean;
  /**
   * Fine-grained experts (Dai et al. 2024, section 3.1): each expert is cut in so many of width dFf / granularity, and
   * granularity times as many are chosen. Default 1.
   */
  granularity?: number;
  /** Share of hidden activations of experts that training drops (Fedus et al. 2021, section 2.4). Default 0. */
  expertDropout?: number;
  /** Seed of the random initial weights. Default 0. */
  seed?: number;
}

const OPTIONS = [
  'dModel',
  'dFf',
  'nExperts',
  'topK',
  'gating',
  'activation',
  'clamp',
  'gated',
  'bias',
  'capacity',
  'nSharedExperts',
  'dFfShared',
  'sharedGate',
  'selectionBias',
  'granularity',
  'expertDropout',
  'seed',
];

export interface MoEForwardOptions {
  /** How packed experts compute. Default 'f32'. */
  compute?: ComputeMode;
  /** Other parameters than the layer's: those that gradients are taken for. */
  parameters?: MoEParameters;
  /** Noise, jitter, random choices, balanced assignment and dropout apply. Default false. */
  training?: boolean;
  /** Of the pass's random numbers; a RuntimeInt gives others at each run of a compiled step. Default 0. */
  seed?: number | RuntimeInt;
  /** Where random numbers come from instead. */
  noise?: NoiseSource;
  /** i32, one per token: for hash routing. */
  tokenIds?: Tensor | null;
  /** bool, one per token: those that are not (padding) go to no expert and take no place of one. Default: all are. */
  routed?: Tensor | null;
}

export interface MoEOutput {
  /** Of x's shape and dtype. */
  readonly output: Tensor;
  readonly plan: RoutingPlan;
  readonly losses: LayerLosses;
}

/** A sparse feed-forward layer: router, gating, capacity, dispatch, experts, combine. */
export class MoELayer {
  readonly dModel: number;
  readonly topK: number;
  readonly nExperts: number;
  readonly gating: Gating;
  readonly activation: Activation;
  readonly clamp: GateClamp | null;
  readonly capacity: CapacityOptions | null;
  readonly expertDropout: number;
  readonly parameters: MoEParameters;

  /** @param parameters default: random ones */
  constructor(options: MoELayerOptions, parameters?: MoEParameters) {
    checkOptions('MoELayer', options, OPTIONS);
    const {
      granularity = 1,
      activation = 'silu',
      clamp = null,
      capacity = null,
      expertDropout = 0,
    } = options;
    for (const name of ['dModel', 'dFf', 'nExperts', 'granularity'] as const)
      checkWhole('MoELayer', name, name === 'granularity' ? granularity : options[name], 1);
    if (options.dFf % granularity !== 0)
      refuse(`dFf ${options.dFf}`, `a multiple of granularity ${granularity}`);
    this.dModel = options.dModel;
    this.nExperts = options.nExperts * granularity;
    this.gating = resolveGating(options.gating ?? 'softmax-top-k');
    this.topK = chosenPerToken(this.gating, options.topK, granularity, this.nExperts);
    this.activation = activation;
    this.clamp = clamp;
    this.capacity = capacity && checkCapacity(capacity);
    this.expertDropout = checkDropout(expertDropout);
    const sizes = sizesOf(options, this.gating, this.nExperts, parameters);
    this.parameters = parameters ?? randomParameters(sizes);
    checkParameters(this.parameters, sizes);
  }

  /**
   * x [B, T, D] ([N, D] is one sequence; any leading axes) → output of the same shape.
   * The router always computes in f32; `compute` applies to packed experts.
   */
  forward(x: Tensor, options: MoEForwardOptions = {}): MoEOutput {
    checkOptions('MoELayer.forward', options, FORWARD_OPTIONS);
    const { compute = 'f32', parameters = this.parameters, training = false } = options;
    const { tokenIds = null, routed = null } = options;
    const { dModel } = this;
    if (x.rank < 2 || x.shape[x.rank - 1] !== dModel)
      refuse(`x of shape [${x.shape}]`, `tokens [B, T, ${dModel}] or [N, ${dModel}]`, 'ERR_SHAPE');
    const n = sizeOf(x.shape.slice(0, -1));
    const sequences = sizeOf(x.shape.slice(0, -2));
    const tokens = cast(reshape(x, [n, dModel]), 'f32'); // [N, D]
    const noise = options.noise ?? seededNoise(options.seed ?? 0);
    const context: GatingContext = {
      x: tokens,
      sequences,
      nExperts: this.nExperts,
      topK: this.topK,
      selectionBias: parameters.selectionBias ?? null,
      parameters: parameters.gating ?? {},
      tokenIds: tokenIds && reshape(tokenIds, [n]),
      training,
      noise,
    };
    const plan = this.#route(tokens, context, parameters.router, routed && reshape(routed, [n, 1]));
    const run = {
      activation: this.activation,
      clamp: this.clamp,
      compute,
      dropout: training && this.expertDropout > 0 ? { rate: this.expertDropout, noise } : null,
    };
    let output: Tensor; // [N, D]
    const { experts } = parameters;
    if (plan.kind === 'sparse')
      output = experts.split
        ? runSplit(tokens, plan, experts, experts.split, run)
        : runExperts(tokens, plan, plan.combineWeights, experts, run);
    else if (plan.kind === 'soft') output = runSlots(tokens, plan, experts, this.nExperts, run);
    else output = runMerged(tokens, plan, experts, run);
    if (parameters.shared) output = add(output, this.#shared(tokens, parameters.shared, compute));
    return {
      output: cast(reshape(output, [...x.shape.slice(0, -1), output.shape[1] as number]), x.dtype),
      plan,
      losses: new LayerLosses(plan, this.nExperts, sequences),
    };
  }

  #route(
    x: Tensor,
    context: GatingContext,
    router: LinearParameters | null,
    routed: Tensor | null,
  ): RoutingPlan {
    const { gating } = this;
    const routerLogits = this.#logits(x, context, router);
    const routing = gating.route(routerLogits, context);
    if (routing.kind === 'sparse')
      return this.#dispatch(routed ? only(routing, routed) : routing, routerLogits, context.sequences);
    if (routed) refuse(`tokens that are not routed, for gating '${gating.name}'`, 'a sparse one');
    if (this.capacity)
      refuse(`a capacity for gating '${gating.name}'`, 'none: it sends no token to chosen experts');
    return { ...routing, routerLogits };
  }

  /** [N, E·outputsPerExpert] */
  #logits(x: Tensor, context: GatingContext, router: LinearParameters | null): Tensor {
    const { gating, nExperts } = this;
    if (gating.outputsPerExpert === 0) return zeros([x.shape[0] as number, nExperts]);
    if (!router) refuse('no router', `one for gating '${gating.name}'`);
    return linearOf(router).forward(gating.routerInput?.(x, context) ?? x);
  }

  #dispatch(wished: SparseRouting, routerLogits: Tensor, sequences: number): SparsePlan {
    const { gating, nExperts, capacity } = this;
    const routing = capacity
      ? applyCapacity(wished, capacity, { nExperts, sequences, policy: gating.name })
      : wished;
    const dispatch = moePlan(routing.expertIds, nExperts, routing);
    return {
      ...routing,
      ...dispatch,
      wishedIds: wished.expertIds,
      wishedWeights: wished.combineWeights,
      routerLogits,
    };
  }

  #shared(x: Tensor, { gate, up, down, outputGate }: SharedParameters, compute: ComputeMode): Tensor {
    const inner = new FeedForward(gate && linearOf(gate), linearOf(up), linearOf(down), this.activation);
    const y = inner.forward(x, compute);
    return outputGate ? mul(y, sigmoid(linearOf(outputGate).forward(x))) : y;
  }
}

const FORWARD_OPTIONS = ['compute', 'parameters', 'training', 'seed', 'noise', 'tokenIds', 'routed'];

/** The choices of tokens where `routed` bool [N, 1] is true. Next-best experts are out: a token without one would get them. */
function only(routing: SparseRouting, routed: Tensor): SparseRouting {
  const { ranking: _, ...rest } = routing;
  return { ...rest, expertIds: where(routed, routing.expertIds, full([], -1, 'i32')) };
}

/** Narrow floats are widened: routing and experts compute in f32. */
const linearOf = ({ weight, bias = null }: LinearParameters): Linear =>
  new Linear(weight instanceof Tensor ? cast(weight, 'f32') : weight, bias && cast(bias, 'f32'));

function refuse(got: string, expected: string, code: 'ERR_OPTION' | 'ERR_SHAPE' = 'ERR_OPTION'): never {
  throw new SwitchyardError(code, `[MoELayer] got ${got}, expected ${expected}`);
}

function chosenPerToken(
  gating: Gating,
  topK: number | undefined,
  granularity: number,
  nExperts: number,
): number {
  const fixed = gating.topK?.(nExperts);
  if (fixed !== undefined) {
    if (granularity !== 1)
      refuse(`granularity ${granularity}`, `1 for gating '${gating.name}', whose topK is fixed`);
    if (topK !== undefined && topK !== fixed) refuse(`topK ${topK}`, `${fixed} for gating '${gating.name}'`);
    if (fixed > nExperts) refuse(`${nExperts} experts`, `at least ${fixed} for gating '${gating.name}'`);
    return fixed;
  }
  const k = checkWhole('MoELayer', 'topK', topK, 1) * granularity;
  if (k > nExperts) refuse(`topK ${k}`, `at most nExperts ${nExperts}`);
  return k;
}

function sizesOf(
  options: MoELayerOptions,
  gating: Gating,
  nExperts: number,
  parameters: MoEParameters | undefined,
): MoESizes {
  const { dModel, granularity = 1, bias = false, nSharedExperts = 0, sharedGate = false, seed = 0 } = options;
  checkWhole('MoELayer', 'nSharedExperts', nSharedExperts, 0);
  const dFfShared = options.dFfShared ?? nSharedExperts * options.dFf;
  return {
    dModel,
    dFf: options.dFf / granularity,
    nExperts,
    routerOutputs: nExperts * (gating.outputsPerExpert ?? 1),
    gated: options.gated ?? (parameters ? parameters.experts.gate !== null : true),
    bias,
    dFfShared: checkWhole('MoELayer', 'dFfShared', dFfShared, 0),
    sharedGate,
    selectionBias: options.selectionBias ?? false,
    gating: gating.parameters?.({ dModel, nExperts }) ?? {},
    seed,
  };
}
