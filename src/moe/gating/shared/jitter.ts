import { add, mul } from '../../../core/ops/elementwise.js';
import type { Tensor } from '../../../core/tensor.js';
import type { GatingContext } from '../gating.js';

/** x · U(1 - ε, 1 + ε) in training: what the router reads (Fedus et al. 2021, section 2.4 and appendix F). */
export function jittered(x: Tensor, jitter: number, { training, noise }: GatingContext): Tensor {
  if (!training || jitter === 0) return x;
  return mul(x, add(mul(noise.uniform(x.shape), 2 * jitter), 1 - jitter));
}
