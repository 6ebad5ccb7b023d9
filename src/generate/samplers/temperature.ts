import { greedy } from './greedy.js';
import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Divides the scores: softmax(z / T) (Ackley, Hinton, Sejnowski 1985, "A learning algorithm for Boltzmann machines").
 * @param t below 1 sharpens, above 1 flattens, 1 does nothing; 0 is greedy; at most 100
 */
export function temperature(t: number): Sampler {
  inRange('temperature', t, { from: 0, to: 100 });
  if (Math.fround(t) === 0) return greedy();
  return Sampler.of(
    stateless('temperature', (chain) => {
      if (t !== 1) chain.begin('temperature').number(t).end();
    }),
  );
}
