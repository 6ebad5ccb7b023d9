import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Keeps tokens with P(x) ≥ p · max P (Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling").
 * @param p 0 is off
 */
export function minP(p: number): Sampler {
  inRange('minP', p, { from: 0, to: 1 });
  return Sampler.of(
    stateless('minP', (chain) => {
      if (p > 0) chain.begin('minP').number(p).end();
    }),
  );
}
