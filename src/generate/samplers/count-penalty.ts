/** What the frequency and the presence penalty share: c occurrences cost c · frequency + presence. */
import { type PenaltyWindow, windowStart } from './penalty-window.js';
import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

export function countPenalty(
  name: 'frequencyPenalty' | 'presencePenalty',
  frequency: number,
  presence: number,
  window: PenaltyWindow,
): Sampler {
  const penalty = name === 'frequencyPenalty' ? frequency : presence;
  inRange(name, penalty, { from: -100, to: 100 });
  const from = windowStart(name, window, false);
  return Sampler.of(
    stateless(
      name,
      (chain, place) => {
        if (penalty !== 0)
          chain.begin('countPenalty').number(frequency).number(presence).int(from(place)).end();
      },
      { readsHistory: penalty !== 0 },
    ),
  );
}
