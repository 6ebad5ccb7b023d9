import { SwitchyardError } from '../../core/errors.js';
import { inRange, type Processor } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Makes the new token number `tokens` an end token, so that the text ends as the model ends texts. (The option maxTokens ends
 * it there without one.)
 */
export function maxLength(tokens: number): Sampler {
  inRange('maxLength', tokens, { from: 1, to: 2 ** 31 - 1, whole: true });
  const processor: Processor = {
    name: 'maxLength',
    readsHistory: false,
    start({ endIds }) {
      if (endIds.size === 0)
        throw new SwitchyardError(
          'ERR_OPTION',
          '[sampler] got maxLength for a text without end tokens, expected at least one',
          {
            hint: 'use maxTokens',
          },
        );
      const ends = Int32Array.from(endIds).sort();
      return {
        write(chain, { length, promptLength }) {
          if (length - promptLength >= tokens - 1) chain.begin('forcedTokens').list(ends).end();
        },
      };
    },
  };
  return Sampler.of(processor);
}
