import { countPenalty } from './count-penalty.js';
import type { PenaltyWindow } from './penalty-window.js';
import type { Sampler } from './sampler.js';

/**
 * Takes `penalty` from the score of a token for each time it occurred (the frequency penalty of OpenAI's API). New tokens
 * count; the prompt does where `prompt` is true.
 * @param penalty −100 to 100; 0 is off
 */
export const frequencyPenalty = (penalty: number, window: PenaltyWindow = {}): Sampler =>
  countPenalty('frequencyPenalty', penalty, 0, window);
