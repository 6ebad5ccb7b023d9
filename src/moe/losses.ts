/** Auxiliary losses of routing, as values; nothing is kept between calls. */
import { div, mul } from '../core/ops/elementwise.js';
import { oneHot } from '../core/ops/indexing.js';
import { softmax } from '../core/ops/norm.js';
import { sum } from '../core/ops/reduce.js';
import { concat } from '../core/ops/shape.js';
import type { Tensor } from '../core/tensor.js';

export interface LayerRouting {
  /** [N, E] */
  readonly routerLogits: Tensor;
  /** i32 [N, K] */
  readonly expertIds: Tensor;
}

/**
 * E · Σ_e f_e · P_e over the tokens of all layers together: f_e = choices of expert e per token (not divided by k),
 * P_e = mean router probability (Fedus et al. 2021, eq. 4-6, as pooled by Mixtral-like models).
 */
export function loadBalancingLoss(layers: readonly LayerRouting[]): Tensor {
  const logits = concat(layers.map((l) => l.routerLogits)); // [L·N, E]
  const ids = concat(layers.map((l) => l.expertIds)); // [L·N, K]
  const [tokens, experts] = logits.shape as [number, number];
  const chosen = div(sum(oneHot(ids, experts), [0, 1]), tokens); // [E]
  const probability = div(sum(softmax(logits), 0), tokens); // [E]
  return mul(sum(mul(chosen, probability)), experts);
}
