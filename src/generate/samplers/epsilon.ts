import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Keeps tokens with P(x) ≥ ε, and the likeliest (Hewitt, Manning, Liang 2022, "Truncation Sampling as Language Model Desmoothing",
 * section 4.1).
 * @param cutoff below 1; 0 is off
 */
export function epsilon(cutoff: number): Sampler {
  inRange('epsilonCutoff', cutoff, { from: 0, below: 1 });
  return Sampler.of(
    stateless('epsilon', (chain) => {
      if (cutoff > 0) chain.begin('epsilon').number(cutoff).end();
    }),
  );
}
