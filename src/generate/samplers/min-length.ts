import { inRange, type Processor } from './processor.js';
import { Sampler } from './sampler.js';
import { biasWords, writeBias } from './token-bias.js';

/** Bans the end tokens until the text has `tokens` new tokens. */
export function minLength(tokens: number): Sampler {
  inRange('minTokens', tokens, { from: 0, to: 2 ** 31 - 1, whole: true });
  const processor: Processor = {
    name: 'minLength',
    readsHistory: false,
    start({ endIds }) {
      const banned = biasWords([...endIds].map((id) => [id, -Infinity] as const));
      return {
        write(chain, { length, promptLength }) {
          if (length - promptLength < tokens) writeBias(chain, banned);
        },
      };
    },
  };
  return Sampler.of(processor);
}
