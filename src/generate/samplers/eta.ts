import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Keeps tokens with P(x) ≥ min(ε, √ε · e^−H), H the entropy, and the likeliest (Hewitt, Manning, Liang 2022, "Truncation
 * Sampling as Language Model Desmoothing", eq. 6).
 * @param cutoff ε, below 1; 0 is off
 */
export function eta(cutoff: number): Sampler {
  inRange('etaCutoff', cutoff, { from: 0, below: 1 });
  return Sampler.of(
    stateless('eta', (chain) => {
      if (cutoff > 0) chain.begin('eta').number(cutoff).end();
    }),
  );
}
