/** What the sampler of one sequence remembers from token to token. */
import type { Sampler } from './sampler.js';

/** What a step says of a token that it chose. */
export interface Choice {
  readonly token: number;
  /** Of the token under the raw logits. */
  readonly logprob: number;
}

/**
 * A sampler at work on one sequence. A step reads it and does not change it; `take` notes the token that was chosen, before
 * the next step is asked for. `fork` gives a second sequence the same past: beams, drafts, several answers to one prompt.
 */
export class Sampling {
  readonly #history: number[];
  #drawn: number;

  /** @param history the prompt's tokens */
  constructor(
    readonly sampler: Sampler,
    history: readonly number[] = [],
    drawn = 0,
  ) {
    this.#history = [...history];
    this.#drawn = drawn;
  }

  /** All tokens of the sequence so far. */
  get history(): readonly number[] {
    return this.#history;
  }

  /** Number of tokens drawn before: the place in the sampler's random stream. */
  get drawn(): number {
    return this.#drawn;
  }

  take({ token }: Choice): void {
    this.#history.push(token);
    this.#drawn++;
  }

  fork(): Sampling {
    return new Sampling(this.sampler, this.#history, this.#drawn);
  }
}
