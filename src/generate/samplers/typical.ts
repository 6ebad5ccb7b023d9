import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Locally typical sampling: takes tokens by rising |−log P(x) − H| until their probabilities reach the mass (Meister et al. 2023,
 * "Locally Typical Sampling", eq. 4). All tokens as near to the entropy H as the last one stay.
 * @param mass above 0; 1 is off
 */
export function typical(mass: number): Sampler {
  inRange('typicalP', mass, { above: 0, to: 1 });
  return Sampler.of(
    stateless('typical', (chain) => {
      if (mass < 1) chain.begin('typical').number(mass).end();
    }),
  );
}
