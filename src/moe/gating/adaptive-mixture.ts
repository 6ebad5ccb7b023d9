import { SwitchyardError } from '../../core/errors.js';
import { exp, mul, neg, square, sub } from '../../core/ops/elementwise.js';
import { logSoftmax, softmax } from '../../core/ops/norm.js';
import { logSumExp, mean, sum } from '../../core/ops/reduce.js';
import { reshape } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { dense } from './dense.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';

/**
 * The adaptive mixture of local experts (Jacobs et al. 1991). The layer's output is the blend Σ p_i o_i; training minimises
 * `adaptiveMixtureLoss` of `expertOutputs`, which makes experts compete for cases.
 */
export function adaptiveMixture(options?: Record<string, never>): Gating {
  withDefaults('adaptive-mixture', options, {});
  return { ...dense(), name: 'adaptive-mixture' };
}

export interface AdaptiveMixture {
  /** Mean over cases of -log Σ_i p_i exp(-½|d - o_i|²), eq. 1.3: what to minimise. */
  readonly loss: Tensor;
  /** [N]: the same per case. */
  readonly perCase: Tensor;
  /** [N, E]: share of expert i in the case, p_i exp(-½|d - o_i|²) / Σ. */
  readonly posterior: Tensor;
  /** Mean of ½|d - Σ_i p_i o_i|², the cooperative error of eq. 1.1 (with the ½ of eq. 1.3). */
  readonly blend: Tensor;
  /** Mean of Σ_i p_i ½|d - o_i|², eq. 1.2 (with that ½). */
  readonly competitive: Tensor;
}

/**
 * Errors of a mixture on cases with targets d.
 * @param routerLogits [N, E], p = softmax of them; @param outputs o_i [N, E, Dout]; @param target [N, Dout]
 */
export function adaptiveMixtureLoss(routerLogits: Tensor, outputs: Tensor, target: Tensor): AdaptiveMixture {
  const [n, e] = routerLogits.shape as [number, number];
  const d = outputs.shape[2] as number;
  const fits = outputs.rank === 3 && outputs.shape[0] === n && outputs.shape[1] === e;
  if (!fits || target.rank !== 2 || target.shape[0] !== n || target.shape[1] !== d) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[adaptiveMixtureLoss] got logits [${routerLogits.shape}], outputs [${outputs.shape}] and target [${target.shape}], expected [N, E], [N, E, D] and [N, D]`,
    );
  }
  const logP = logSoftmax(routerLogits); // [N, E]
  const p = exp(logP);
  const half = mul(sum(square(sub(reshape(target, [n, 1, d]), outputs)), -1), 0.5); // [N, E]
  const joint = sub(logP, half);
  const perCase = neg(logSumExp(joint));
  const blended = sum(mul(reshape(p, [n, e, 1]), outputs), 1); // [N, D]
  return {
    loss: mean(perCase),
    perCase,
    posterior: softmax(joint),
    blend: mul(mean(sum(square(sub(target, blended)), -1)), 0.5),
    competitive: mean(sum(mul(p, half), -1)),
  };
}
