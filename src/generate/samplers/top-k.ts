import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Keeps the k largest scores and all that equal the k-th (Fan, Lewis, Dauphin 2018, "Hierarchical Neural Story Generation").
 * @param k 0 is off
 */
export function topK(k: number): Sampler {
  inRange('topK', k, { from: 0, to: 2 ** 24, whole: true });
  return Sampler.of(
    stateless('topK', (chain) => {
      if (k > 0) chain.begin('topK').int(k).end();
    }),
  );
}
