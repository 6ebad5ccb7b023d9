import { checkOptions, SwitchyardError } from '../../core/errors.js';
import type { ChainBatch } from './chain-batch.js';
import { inRange, type RunningProcessor, type TakenToken } from './processor.js';
import { Sampler } from './sampler.js';

export interface MirostatOptions {
  /** Surprise that the text is held at, in bits a token. Default 5. */
  tau?: number;
  /** How fast the cut follows. Default 0.1. */
  eta?: number;
}

/**
 * Mirostat 2 (Basu et al. 2021, "Mirostat: A Neural Text Decoding Algorithm that Directly Controls Perplexity", algorithm 2): keeps
 * tokens of surprise −log2 P(x) ≤ μ, and the likeliest. μ starts at 2τ; after a token of surprise s, under the distribution it was
 * drawn from, μ ← μ − η (s − τ). Its state is the sequence's own. Put it last.
 */
export function mirostat(options: MirostatOptions = {}): Sampler {
  checkOptions('mirostat', options, ['tau', 'eta']);
  const tau = inRange('mirostat tau', options.tau ?? 5, { above: 0, to: 100 });
  const eta = inRange('mirostat eta', options.eta ?? 0.1, { above: 0, to: 1 });
  return Sampler.of({
    name: 'mirostat',
    readsHistory: false,
    needsChosen: true,
    start: () => new Mirostat(tau, eta, 2 * tau),
  });
}

class Mirostat implements RunningProcessor {
  readonly #tau: number;
  readonly #eta: number;
  #mu: number;

  constructor(tau: number, eta: number, mu: number) {
    this.#tau = tau;
    this.#eta = eta;
    this.#mu = mu;
  }

  write(chain: ChainBatch): void {
    chain.begin('mirostat').number(this.#mu).end();
  }

  take({ chosen }: TakenToken): void {
    if (chosen === undefined)
      throw new SwitchyardError(
        'ERR_OPTION',
        '[mirostat] got a token without its probability, expected a drawn one',
      );
    this.#mu -= this.#eta * (-chosen / Math.LN2 - this.#tau);
  }

  fork(): Mirostat {
    return new Mirostat(this.#tau, this.#eta, this.#mu);
  }
}
