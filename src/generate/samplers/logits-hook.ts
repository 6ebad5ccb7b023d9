import { SwitchyardError } from '../../core/errors.js';
import { Sampler } from './sampler.js';

/**
 * Changes the scores of all tokens in place.
 * @param scores [V], as the samplers before it have left them; -Infinity removes a token
 * @param tokens prompt and text so far
 */
export type LogitsHook = (scores: Float32Array, tokens: Int32Array) => void | Promise<void>;

/**
 * A rule of your own, in JavaScript. It costs a trip of all scores through JavaScript for each token: hundreds of microseconds with a
 * large vocabulary.
 */
export function logitsHook(hook: LogitsHook): Sampler {
  if (typeof hook !== 'function')
    throw new SwitchyardError('ERR_OPTION', `[sampler] got logitsHook ${String(hook)}, expected a function`);
  const running = { write: () => undefined, hook };
  return Sampler.of({ name: 'logitsHook', readsHistory: true, start: () => running });
}
