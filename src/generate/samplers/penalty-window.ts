/** Which tokens a penalty looks at. */
import { checkOptions, SwitchyardError } from '../../core/errors.js';
import { inRange, type Place } from './processor.js';

export interface PenaltyWindow {
  /** Tokens of the prompt count too. */
  prompt?: boolean;
  /** Only so many tokens before the next one count. Default: all. */
  window?: number;
}

/** The first place in the history that counts. */
export function windowStart(
  where: string,
  options: PenaltyWindow,
  promptByDefault: boolean,
): (place: Place) => number {
  checkOptions(where, options, ['prompt', 'window']);
  const { prompt = promptByDefault, window } = options;
  if (typeof prompt !== 'boolean')
    throw new SwitchyardError(
      'ERR_OPTION',
      `[${where}] got prompt ${String(prompt)}, expected true or false`,
    );
  if (window !== undefined) inRange(`${where} window`, window, { from: 0, to: 2 ** 31 - 1, whole: true });
  return ({ length, promptLength }) =>
    Math.max(prompt ? 0 : promptLength, window === undefined ? 0 : length - window);
}
