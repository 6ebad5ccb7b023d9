import type { Gating } from './gating.js';
import { jittered } from './shared/jitter.js';
import { checkRange, withDefaults } from './shared/options.js';
import { softmaxTopK } from './softmax-top-k.js';

export interface SwitchTop1Options {
  /** ε of the factor U(1 - ε, 1 + ε) on the router's input in training. Default 0.01. */
  jitter: number;
}

/** Switch routing (Fedus et al. 2021, eq. 1-2): the expert with the largest probability, weighted by that probability. */
export function switchTop1(options?: Partial<SwitchTop1Options>): Gating {
  const { jitter } = withDefaults('switch-top-1', options, { jitter: 0.01 });
  checkRange('switch-top-1', { jitter }, 0, 1);
  const { route } = softmaxTopK({ renormalize: false });
  return {
    name: 'switch-top-1',
    options: { jitter },
    topK: () => 1,
    routerInput: (x, context) => jittered(x, jitter, context),
    route,
  };
}
