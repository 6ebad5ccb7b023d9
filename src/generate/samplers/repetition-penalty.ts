import { type PenaltyWindow, windowStart } from './penalty-window.js';
import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Divides positive and multiplies negative scores of tokens that occurred (Keskar et al. 2019, "CTRL", section 4.1). The prompt counts
 * unless `prompt` is false.
 * @param penalty above 1 discourages repetition, below 1 encourages it, 1 is off; 0.01 to 100
 */
export function repetitionPenalty(penalty: number, window: PenaltyWindow = {}): Sampler {
  inRange('repetitionPenalty', penalty, { from: 0.01, to: 100 });
  const from = windowStart('repetitionPenalty', window, true);
  return Sampler.of(
    stateless(
      'repetitionPenalty',
      (chain, place) => {
        if (penalty !== 1) chain.begin('repetitionPenalty').number(penalty).int(from(place)).end();
      },
      { readsHistory: penalty !== 1 },
    ),
  );
}
