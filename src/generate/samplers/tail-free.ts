import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Tail-free sampling (Bricken 2019): with p sorted falling and d_i = |p_i − 2 p_(i+1) + p_(i+2)| normalised to sum 1, keeps the first
 * token and token i while d_0 + … + d_(i−1) ≤ z. Sorts all that is left: with a large vocabulary put a top-k before it.
 * @param z 1 is off
 */
export function tailFree(z: number): Sampler {
  inRange('tailFree', z, { from: 0, to: 1 });
  return Sampler.of(
    stateless('tailFree', (chain) => {
      if (z < 1) chain.begin('tailFree').number(z).end();
    }),
  );
}
