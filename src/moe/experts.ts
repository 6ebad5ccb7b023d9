import { SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import type { Activation } from '../core/ops/elementwise.js';
import { expertLayer } from '../core/ops/expert-layer.js';
import { moeExperts } from '../core/ops/experts.js';
import type { DispatchPlan } from '../core/ops/routing.js';
import type { Tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';

/** The experts of a sparse layer, stacked: packed weights for inference, or tensors that gradients reach. */
export interface ExpertParameters {
  /** E × [F, D]; null for experts without a gate. */
  readonly gate: Weight | Tensor | null;
  /** E × [F, D] */
  readonly up: Weight | Tensor;
  /** E × [D, F] */
  readonly down: Weight | Tensor;
  /** [E, F]; biases stand beside tensors only. */
  readonly gateBias?: Tensor | undefined;
  /** [E, F] */
  readonly upBias?: Tensor | undefined;
  /** [E, D] */
  readonly downBias?: Tensor | undefined;
}

/** Dispatch, gate and up, activation, down, combine: x [N, D] → [N, D]. */
export function runExperts(
  x: Tensor,
  plan: DispatchPlan,
  combineWeights: Tensor,
  experts: ExpertParameters,
  activation: Activation,
  compute: ComputeMode,
): Tensor {
  const { gate, up, down } = experts;
  if (up instanceof Weight && down instanceof Weight && (gate === null || gate instanceof Weight)) {
    return moeExperts(x, plan, combineWeights, { gate, up, down }, { activation, compute });
  }
  if (up instanceof Weight || down instanceof Weight || gate instanceof Weight) {
    throw new SwitchyardError(
      'ERR_OPTION',
      '[experts] got packed weights beside tensors, expected all experts of one kind',
    );
  }
  const { gateBias, upBias, downBias } = experts;
  const tensors = { gate, up, down, gateBias, upBias, downBias };
  return expertLayer(x, plan, combineWeights, tensors, { activation }).y;
}
