/** The losses of one forward pass, built when asked for. */
import { SwitchyardError, unknownOption } from '../core/errors.js';
import { add, mul, zeros } from '../core/ops/elementwise.js';
import type { Tensor } from '../core/tensor.js';
import {
  type Choices,
  communicationBalanceLoss,
  deviceBalanceLoss,
  expertBalanceLoss,
  gateMatrix,
  importanceLoss,
  loadLoss,
  routerZLoss,
  sequenceBalanceLoss,
  switchLoss,
} from './losses.js';
import type { RoutingPlan, SparsePlan } from './plan.js';

const NAMES = ['loadBalancing', 'importance', 'load', 'expertBalance', 'sequenceBalance', 'routerZ'] as const;
export type LossName = (typeof NAMES)[number];

/** Every loss is a scalar without a coefficient; choices count before capacity drops any. */
export class LayerLosses {
  readonly #plan: RoutingPlan;
  readonly #nExperts: number;
  readonly #sequences: number;

  constructor(plan: RoutingPlan, nExperts: number, sequences: number) {
    this.#plan = plan;
    this.#nExperts = nExperts;
    this.#sequences = sequences;
  }

  /** Switch: E · Σ f P. */
  get loadBalancing(): Tensor {
    return switchLoss(this.#choices('loadBalancing'));
  }
  /** CV² of the experts' summed weights. */
  get importance(): Tensor {
    const { wishedIds, wishedWeights } = this.#sparse('importance');
    return importanceLoss(gateMatrix(wishedIds, wishedWeights, this.#nExperts));
  }
  /** CV² of the smooth load: noisy gating in training only. */
  get load(): Tensor {
    const { smoothLoad } = this.#sparse('load');
    if (!smoothLoad)
      throw new SwitchyardError(
        'ERR_OPTION',
        '[losses.load] got a routing without a smooth load, expected one',
        {
          hint: "gating 'noisy-top-k' has it with forward(x, { training: true })",
        },
      );
    return loadLoss(smoothLoad);
  }
  /** DeepSeekMoE: Σ f P. */
  get expertBalance(): Tensor {
    return expertBalanceLoss(this.#choices('expertBalance'));
  }
  /** DeepSeek-V3: Σ f P of each sequence, meaned. */
  get sequenceBalance(): Tensor {
    return sequenceBalanceLoss(this.#choices('sequenceBalance'), this.#sequences);
  }
  /** ST-MoE: mean of logsumexp². */
  get routerZ(): Tensor {
    return routerZLoss(this.#plan.routerLogits);
  }
  /** DeepSeekMoE: over `devices` equal runs of experts. */
  deviceBalance(devices: number): Tensor {
    return deviceBalanceLoss(this.#choices('deviceBalance'), devices);
  }
  /** DeepSeek-V2: a token reaches at most `limit` devices. */
  communicationBalance(devices: number, limit: number): Tensor {
    return communicationBalanceLoss(this.#choices('communicationBalance'), devices, limit);
  }

  /** Σ coefficient · loss, e.g. `total({ loadBalancing: 0.01, routerZ: 0.001 })`. */
  total(coefficients: Partial<Record<LossName, number>>): Tensor {
    let total = zeros([]);
    for (const [name, coefficient] of Object.entries(coefficients)) {
      if (!(NAMES as readonly string[]).includes(name)) throw unknownOption('losses.total', name, NAMES);
      total = add(total, mul(this[name as LossName], coefficient));
    }
    return total;
  }

  #sparse(loss: string): SparsePlan {
    if (this.#plan.kind === 'sparse') return this.#plan;
    throw new SwitchyardError(
      'ERR_OPTION',
      `[losses.${loss}] got ${this.#plan.kind} routing, which chooses no experts, expected sparse`,
    );
  }
  #choices(loss: string): Choices {
    const { probabilities, wishedIds } = this.#sparse(loss);
    return { probabilities, expertIds: wishedIds };
  }
}
