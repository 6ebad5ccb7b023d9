import { equal, full, less, mul, or, where } from '../../core/ops/elementwise.js';
import { iota } from '../../core/ops/shape.js';
import type { Gating, SparseRouting } from './gating.js';
import { jittered } from './shared/jitter.js';
import { checkRange, withDefaults } from './shared/options.js';
import { softmaxTopK } from './softmax-top-k.js';

export interface StMoeTop2Options {
  /** The second expert is kept with probability min(1, g₂ / secondThreshold) in training. Default 0.2; GShard has 0.5. */
  secondThreshold: number;
  /** ε of the factor U(1 - ε, 1 + ε) on the router's input in training. Default 0. */
  jitter: number;
}

/**
 * Top-2 with a random second expert (Lepikhin et al. 2020, algorithm 1; Zoph et al. 2022, appendix C): g₁ and g₂ are the two
 * largest probabilities divided by their sum; a weak second choice is often left out. Outside of training both are kept.
 */
export function stMoeTop2(options?: Partial<StMoeTop2Options>): Gating {
  const { secondThreshold, jitter } = withDefaults('st-moe-top-2', options, {
    secondThreshold: 0.2,
    jitter: 0,
  });
  checkRange('st-moe-top-2', { jitter }, 0, 1);
  checkRange('st-moe-top-2', { secondThreshold }, 0);
  const both = softmaxTopK();
  return {
    name: 'st-moe-top-2',
    options: { secondThreshold, jitter },
    topK: () => 2,
    routerInput: (x, context) => jittered(x, jitter, context),
    route(logits, context) {
      const routing = both.route(logits, context) as SparseRouting;
      if (!context.training) return routing;
      // Without a ranking: next-best would give a token another expert for the one that was left out.
      const { expertIds, combineWeights, probabilities } = routing;
      const first = equal(iota([1, 2], 1), 0);
      const drawn = mul(context.noise.uniform(expertIds.shape), secondThreshold);
      const kept = or(first, less(drawn, combineWeights));
      return {
        kind: 'sparse',
        expertIds: where(kept, expertIds, full([], -1, 'i32')),
        combineWeights,
        probabilities,
      };
    },
  };
}
