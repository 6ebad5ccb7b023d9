import { SwitchyardError } from '../../core/errors.js';
import { checkTokens, inRange, type Processor } from './processor.js';
import { Sampler } from './sampler.js';

/** Token ids by place among the new tokens, from 0. */
export type ForcedTokens = Readonly<Record<number, number>> | ReadonlyMap<number, number>;

/** Gives chosen places of the text chosen tokens, whatever the model thinks of them. */
export function forcedTokens(tokens: ForcedTokens): Sampler {
  if (typeof tokens !== 'object' || tokens === null || Array.isArray(tokens))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[sampler] got forcedTokens ${String(tokens)}, expected token ids by place`,
    );
  const whole = { from: 0, to: 2 ** 31 - 1, whole: true };
  const entries =
    tokens instanceof Map ? [...tokens] : Object.entries(tokens).map(([at, id]) => [Number(at), id] as const);
  const forced = new Map<number, number>(
    entries.map(([at, id]) => [
      inRange('forcedTokens place', at, whole),
      inRange('forcedTokens token', id, whole),
    ]),
  );
  const processor: Processor = {
    name: 'forcedTokens',
    readsHistory: false,
    start(context) {
      checkTokens(forced.values(), context);
      return {
        write(chain, { length, promptLength }) {
          const id = forced.get(length - promptLength);
          if (id !== undefined) chain.begin('forcedTokens').list([id]).end();
        },
      };
    },
  };
  return Sampler.of(processor);
}
