import { SwitchyardError } from '../../core/errors.js';
import { checkTokens, inRange, type Processor, tokenList } from './processor.js';
import { Sampler } from './sampler.js';
import { biasWords, writeBias } from './token-bias.js';

/** By token id; −Infinity bans the token. */
export type LogitBias = Readonly<Record<number, number>> | ReadonlyMap<number, number>;

/** Adds a number to the score of each given token. */
export function logitBias(bias: LogitBias): Sampler {
  if (typeof bias !== 'object' || bias === null || Array.isArray(bias))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[sampler] got logitBias ${String(bias)}, expected numbers by token id`,
    );
  const entries =
    bias instanceof Map ? [...bias] : Object.entries(bias).map(([id, b]) => [Number(id), b] as const);
  return biased(
    'logitBias',
    entries.map(([id, b]) => [
      inRange('logitBias token', id, { from: 0, to: 2 ** 31 - 1, whole: true }),
      b === -Infinity ? b : inRange(`logitBias of token ${id}`, b, { from: -1e6, to: 1e6 }),
    ]),
  );
}

/** Bans tokens. */
export const suppressTokens = (ids: readonly number[]): Sampler =>
  biased(
    'suppressTokens',
    tokenList('suppressTokens', ids).map((id) => [id, -Infinity]),
  );

function biased(name: string, pairs: readonly (readonly [number, number])[]): Sampler {
  const words = biasWords(pairs);
  const processor: Processor = {
    name,
    readsHistory: false,
    start(context) {
      checkTokens(
        pairs.map(([id]) => id),
        context,
      );
      return { write: (chain) => writeBias(chain, words) };
    },
  };
  return Sampler.of(processor);
}
