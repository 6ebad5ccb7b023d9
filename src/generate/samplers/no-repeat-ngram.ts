import { inRange, stateless } from './processor.js';
import { Sampler } from './sampler.js';

/**
 * Bans every token that would complete an n-gram which prompt and text hold already (Paulus et al. 2018, "A Deep Reinforced
 * Model for Abstractive Summarization", section 2.5).
 * @param n 0 is off
 */
export function noRepeatNgram(n: number): Sampler {
  inRange('noRepeatNgramSize', n, { from: 0, to: 2 ** 20, whole: true });
  return Sampler.of(
    stateless(
      'noRepeatNgram',
      (chain) => {
        if (n > 0) chain.begin('noRepeatNgram').int(n).end();
      },
      { readsHistory: n > 0 },
    ),
  );
}
