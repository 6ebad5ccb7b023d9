import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Nucleus sampling: keeps the smallest set of the likeliest tokens with Σ P(x) ≥ p, one token at least (Holtzman et al. 2020,
 * "The Curious Case of Neural Text Degeneration", eq. 2). Of equally likely tokens at the edge the lower ids stay.
 * @param p 1 is off
 */
export function topP(p: number): Sampler {
  inRange('topP', p, { from: 0, to: 1 });
  return Sampler.of(
    stateless('topP', (chain) => {
      if (p < 1) chain.begin('topP').number(p).end();
    }),
  );
}
