import { add, div, erf, greaterEqual, mul, softplus, sub, where } from '../../core/ops/elementwise.js';
import { topK as largest } from '../../core/ops/indexing.js';
import { matmul } from '../../core/ops/linalg.js';
import { softmax } from '../../core/ops/norm.js';
import { sum } from '../../core/ops/reduce.js';
import { routeTopK } from '../../core/ops/routing.js';
import { slice } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Gating } from './gating.js';
import { checkRange, withDefaults } from './shared/options.js';
import { rankingOf, scoresAt } from './shared/weights.js';

export interface NoisyTopKOptions {
  /** Added to the noise's standard deviation, so that no probability divides by zero. Default 0, as in the paper. */
  noiseFloor: number;
}

/**
 * Noisy top-k gating (Shazeer et al. 2017, eq. 3-5): H = x·W_g + N(0, 1) · softplus(x·W_noise), then KeepTopK and softmax.
 * W_noise [E, D] is trainable: `parameters.gating.noise`. No noise outside of training.
 */
export function noisyTopK(options?: Partial<NoisyTopKOptions>): Gating {
  const { noiseFloor } = withDefaults('noisy-top-k', options, { noiseFloor: 0 });
  checkRange('noisy-top-k', { noiseFloor }, 0);
  return {
    name: 'noisy-top-k',
    options: { noiseFloor },
    parameters: ({ dModel, nExperts }) => ({ noise: [nExperts, dModel] }),
    route(clean, { x, topK, parameters, training, noise, selectionBias }) {
      const std = add(softplus(matmul(x, parameters.noise as Tensor, { transposeB: true })), noiseFloor); // [N, E]
      const noisy = training ? add(clean, mul(noise.normal(clean.shape), std)) : clean;
      return {
        kind: 'sparse',
        ...routeTopK(noisy, { k: topK, score: 'softmax-of-chosen', bias: selectionBias }),
        probabilities: softmax(noisy),
        selectionLogits: noisy,
        ranking: () => rankingOf(noisy, selectionBias),
        weigh: (expertIds) => softmax(scoresAt(noisy, expertIds, Number.NEGATIVE_INFINITY)),
        ...(training ? { smoothLoad: smoothLoad(clean, noisy, std, topK) } : {}),
      };
    },
  };
}

/**
 * Load(X)_i = Σ_x P(x, i): the probability that expert i stays among the k best when only its own noise is drawn again,
 * P = Φ((x·W_g - kth_excluding(H, k, i)) / softplus(x·W_noise)) (Shazeer et al. 2017, eq. 8-10).
 * @param clean x·W_g [N, E]; @param noisy H [N, E]; @param std [N, E]
 * @returns [E]
 */
export function smoothLoad(clean: Tensor, noisy: Tensor, std: Tensor, k: number): Tensor {
  const e = clean.shape[1] as number;
  if (k >= e) return sum(add(mul(clean, 0), 1), 0); // every expert is always chosen
  const top = largest(noisy, k + 1).values; // [N, k+1]
  const kth = slice(top, 1, k - 1, k);
  const next = slice(top, 1, k, k + 1);
  const threshold = where(greaterEqual(noisy, kth), next, kth); // without entry i
  return sum(normalCdf(div(sub(clean, threshold), std)), 0);
}

const normalCdf = (z: Tensor): Tensor => mul(add(erf(mul(z, Math.SQRT1_2)), 1), 0.5);
