import { checkOptions, SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import type { Activation } from '../core/ops/elementwise.js';
import { mul } from '../core/ops/elementwise.js';
import { randomNormal } from '../core/ops/random.js';
import { type DispatchPlan, moePlan } from '../core/ops/routing.js';
import { reshape } from '../core/ops/shape.js';
import { sizeOf } from '../core/shape.js';
import type { Tensor } from '../core/tensor.js';
import { Linear } from '../nn/linear.js';
import { type ExpertParameters, runExperts } from './experts.js';
import { type Choice, type Gating, type GatingName, resolveGating } from './gating/index.js';
import { loadBalancingLoss } from './losses.js';

export interface MoELayerOptions {
  /** Residual width D. */
  dModel: number;
  /** Inner width F of one expert. */
  dFf: number;
  nExperts: number;
  /** Experts per token. */
  topK: number;
  /** Policy name or object. Default 'softmax-top-k'. */
  gating?: GatingName | Gating;
  /** Default 'silu' with a gate (SwiGLU). */
  activation?: Activation;
  /** Seed of the random initial weights. Default 0. */
  seed?: number;
}

/** What routing did with a batch of tokens. */
export interface RoutingPlan extends DispatchPlan, Choice {
  /** [N, E], f32 */
  readonly routerLogits: Tensor;
}

export interface MoEOutput {
  /** Of x's shape. */
  readonly output: Tensor;
  readonly plan: RoutingPlan;
  readonly losses: { readonly loadBalancing: Tensor };
}

export interface MoEParameters {
  /** W_r [E, D] */
  readonly router: Linear;
  readonly experts: ExpertParameters;
  /** [E]: moves the choice, not the weights (DeepSeek-V3); null: none. */
  readonly selectionBias?: Tensor | null;
}

/** Deviation of initial weights, as most published models draw them. */
const INITIAL_STD = 0.02;

/** A sparse feed-forward layer: router, gating, dispatch, experts, combine. */
export class MoELayer {
  readonly topK: number;
  readonly nExperts: number;
  readonly gating: Gating;
  readonly activation: Activation;

  constructor(
    options: MoELayerOptions,
    readonly parameters: MoEParameters = randomParameters(options),
  ) {
    checkOptions('MoELayer', options, ['dModel', 'dFf', 'nExperts', 'topK', 'gating', 'activation', 'seed']);
    const { nExperts, topK } = options;
    for (const name of ['dModel', 'dFf', 'nExperts', 'topK'] as const) {
      if (!Number.isInteger(options[name]) || options[name] < 1) {
        throw new SwitchyardError(
          'ERR_OPTION',
          `[MoELayer] got ${name} ${options[name]}, expected a whole number ≥ 1`,
        );
      }
    }
    if (topK > nExperts)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[MoELayer] got topK ${topK}, expected at most nExperts ${nExperts}`,
      );
    this.nExperts = nExperts;
    this.topK = topK;
    this.gating = resolveGating(options.gating ?? 'softmax-top-k');
    this.activation = options.activation ?? 'silu';
  }

  /**
   * x [B, T, D] (or any leading axes) → output of the same shape.
   * The router always computes in f32; `compute` applies to packed experts.
   */
  forward(x: Tensor, { compute = 'f32' as ComputeMode, parameters = this.parameters } = {}): MoEOutput {
    const d = x.shape[x.rank - 1] as number;
    const tokens = reshape(x, [sizeOf(x.shape.slice(0, -1)), d]); // [N, D]
    const routerLogits = parameters.router.forward(tokens); // [N, E]
    const choice = this.gating.choose(routerLogits, {
      topK: this.topK,
      selectionBias: parameters.selectionBias ?? null,
    });
    const plan = moePlan(choice.expertIds, this.nExperts);
    const output = runExperts(
      tokens,
      plan,
      choice.combineWeights,
      parameters.experts,
      this.activation,
      compute,
    );
    return {
      output: reshape(output, x.shape),
      plan: { ...plan, ...choice, routerLogits },
      losses: { loadBalancing: loadBalancingLoss([{ routerLogits, expertIds: choice.expertIds }]) },
    };
  }
}

function randomParameters({ dModel, dFf, nExperts, seed = 0 }: MoELayerOptions): MoEParameters {
  let offset = 0;
  const draw = (...shape: number[]): Tensor => {
    const t = mul(randomNormal(shape, { seed, offset }), INITIAL_STD);
    offset += sizeOf(shape);
    return t;
  };
  return {
    router: new Linear(draw(nExperts, dModel)),
    experts: {
      gate: draw(nExperts, dFf, dModel),
      up: draw(nExperts, dFf, dModel),
      down: draw(nExperts, dModel, dFf),
    },
  };
}
