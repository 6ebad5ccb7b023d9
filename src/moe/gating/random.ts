import { full } from '../../core/ops/elementwise.js';
import { topK as largest } from '../../core/ops/indexing.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';

/** K experts drawn evenly for each token, weight 1 / K each: the baseline of Roller et al. 2021 and Zuo et al. 2021. No router. */
export function random(options?: Record<string, never>): Gating {
  withDefaults('random', options, {});
  return {
    name: 'random',
    options: {},
    outputsPerExpert: 0,
    route(logits, { topK, nExperts, noise }) {
      const shape = [logits.shape[0] as number, nExperts];
      return {
        kind: 'sparse',
        expertIds: largest(noise.uniform(shape), topK).indices,
        combineWeights: full([shape[0] as number, topK], 1 / topK),
        probabilities: full(shape, 1 / nExperts),
      };
    },
  };
}
