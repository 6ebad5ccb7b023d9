import { checkOptions } from '../../core/errors.js';
import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

export interface XtcOptions {
  /** Probability that counts as a top choice. Default 0.1. */
  threshold?: number;
  /** Share of tokens for which top choices are excluded. Default 0.5. */
  probability?: number;
}

/**
 * Exclude top choices (p-e-w 2024): with the given probability, of all tokens that reach the threshold only the least likely
 * one stays. Its coin is a random stream of its own, of the same seed.
 */
export function xtc(options: XtcOptions = {}): Sampler {
  checkOptions('xtc', options, ['threshold', 'probability']);
  const threshold = inRange('xtc threshold', options.threshold ?? 0.1, { above: 0, to: 1 });
  const probability = inRange('xtc probability', options.probability ?? 0.5, { from: 0, to: 1 });
  return Sampler.of(
    stateless('xtc', (chain) => {
      if (probability > 0) chain.begin('xtc').number(threshold).number(probability).int(1).end();
    }),
  );
}
