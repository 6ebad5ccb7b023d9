/** What the sampler of one sequence remembers from token to token. */
import { SwitchyardError } from '../../core/errors.js';
import type { ChainBatch } from '../samplers/chain-batch.js';
import type { RunningProcessor, SequenceContext, TakenToken } from '../samplers/processor.js';
import type { Sampler } from '../samplers/sampler.js';

interface Taken extends TakenToken {
  /** Why there is no token, which then is below 0; `take` throws it, so that it meets this sequence and no other of the step. */
  readonly error?: unknown;
}

/** What a step says of the token that it chose for a row. */
export interface Choice extends Taken {
  /** Of the token under the raw logits. */
  readonly logprob: number;
  /** Of the token under the distribution it was drawn from. */
  readonly chosen: number;
  /** Where the step was asked for the likeliest tokens: 1 + the number of likelier ones. */
  readonly rank?: number;
  readonly top?: readonly TokenLogprob[];
}

/** A token and its log-probability under the raw logits. */
export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
}

/** A hook of a chain, and the part of the chain before it. */
export interface HookedPart {
  readonly write: (chain: ChainBatch) => void;
  readonly hook: (scores: Float32Array) => void | Promise<void>;
}

/** How one token is chosen, as a step sees it. */
export interface Choosing {
  /** What must be waited for before the next step; null: nothing. */
  readonly pending: Promise<unknown> | null;
  /** Whether the row is chosen for behind the step: scores pass through JavaScript, or it must `learn` first. */
  readonly hooked: boolean;
  /** The hooks, in order. */
  hooks(): HookedPart[];
  /** Gets to know what was chosen in the rows before, in place of guesses. */
  learn?(before: readonly Choice[]): void;
  /** Adds the row of the token to a batch: from the last hook on, if there is one. */
  write(batch: ChainBatch): void;
}

export interface SamplingOptions {
  /** What processors may know of the model; without it ids are not checked and there are no end tokens. */
  context?: SequenceContext;
  seed?: number;
  /** @internal Begin with what this one remembers, instead of the prompt. */
  past?: Sampling;
}

const BARE: SequenceContext = { endIds: new Set() };

/**
 * A sampler at work on one sequence. A step reads it and does not change it; `take` notes the token that was chosen, before
 * the next step is asked for. `fork` gives a second sequence the same past: beams, drafts, several answers to one prompt.
 */
export class Sampling implements Choosing {
  readonly seed: number;
  readonly #running: readonly RunningProcessor[];
  /** Prompt and new tokens; grows by doubling. */
  #tokens: Int32Array;
  #length: number;
  readonly #promptLength: number;
  /** Tokens at the end that are guessed. */
  #guesses: number;
  readonly #readsHistory: boolean;
  /** Whether choices depend on tokens before only by how many there are. */
  readonly #counts: boolean;

  /**
   * @param prompt tokens before the first one that is drawn
   * @param options.seed default: the sampler's own, else drawn at random
   * @throws SwitchyardError ERR_OPTION where the sampler names tokens that the vocabulary does not have
   */
  constructor(
    readonly sampler: Sampler,
    prompt: readonly number[] = [],
    { context = BARE, seed, past }: SamplingOptions = {},
  ) {
    this.seed = past?.seed ?? seed ?? sampler.seed ?? Math.floor(Math.random() * 2 ** 32);
    this.#readsHistory = sampler.processors.some((p) => p.readsHistory);
    this.#running = past
      ? past.#running.map((running) => running.fork?.() ?? running)
      : sampler.processors.map((p) => p.start(context));
    this.#counts = !this.#readsHistory && this.#running.every(({ take, hook }) => !take && !hook);
    this.#guesses = past ? past.#guesses : 0;
    this.#promptLength = past ? past.#promptLength : prompt.length;
    this.#tokens = past ? past.history.slice() : Int32Array.from(prompt);
    this.#length = this.#tokens.length;
  }

  /** All tokens of the sequence so far. */
  get history(): Int32Array {
    return this.#tokens.subarray(0, this.#length);
  }

  /** Number of tokens drawn before: the place in the random stream of the seed. */
  get drawn(): number {
    return this.#length - this.#promptLength;
  }

  get pending(): Promise<unknown> | null {
    const waits: Promise<void>[] = [];
    for (const { pending } of this.#running) if (pending) waits.push(pending);
    return waits.length === 0 ? null : Promise.all(waits);
  }

  /** Whether a token may stand next, as far as grammars say; asked when nothing is pending. */
  allows(token: number): boolean {
    return this.#running.every((running) => running.allows?.(token) ?? true);
  }

  /** The text that a grammar forces to stand next; '' where none does. Asked when nothing is pending. */
  async forced(): Promise<string> {
    for (const running of this.#running) {
      const text = await running.forced?.();
      if (text) return text;
    }
    return '';
  }

  get hooked(): boolean {
    return (this.#guesses > 0 && this.#needsChosen) || this.#running.some(({ hook }) => hook !== undefined);
  }

  /** Whether what comes next depends on how likely the tokens before were when they were drawn. */
  get #needsChosen(): boolean {
    return this.sampler.processors.some((p) => p.needsChosen === true);
  }

  write(batch: ChainBatch): void {
    const last = this.#running.findLastIndex(({ hook }) => hook !== undefined);
    this.#writePart(batch, last + 1, this.#running.length);
  }

  /** How the token behind the next one is chosen, which need not be known for it; null: it must. */
  ahead(): Choosing | null {
    if (!this.#counts) return null;
    const length = this.#length + 1;
    const write = (batch: ChainBatch): void => this.#writePart(batch, 0, this.#running.length, length);
    return { pending: null, hooked: false, hooks: () => [], write };
  }

  hooks(): HookedPart[] {
    const parts: HookedPart[] = [];
    let from = 0;
    for (const [i, running] of this.#running.entries()) {
      if (!running.hook) continue;
      const start = from;
      parts.push({
        write: (batch) => this.#writePart(batch, start, i),
        hook: (scores) => running.hook?.(scores, this.history.slice()),
      });
      from = i + 1;
    }
    return parts;
  }

  #writePart(batch: ChainBatch, from: number, to: number, length = this.#length): void {
    const place = { length, promptLength: this.#promptLength };
    batch.open(this.#tokens, this.#readsHistory ? length : 0);
    for (let i = from; i < to; i++) this.#running[i]?.write(batch, place);
    batch.close(this.seed, length - this.#promptLength);
  }

  /**
   * Notes a token; `chosen` only where `needsChosen` says so.
   * @throws SwitchyardError why the step found none
   */
  take(choice: Taken): void {
    const { token } = choice;
    if (token < 0) throw choice.error ?? noToken(token);
    this.#push(token);
    for (const running of this.#running) running.take?.(choice);
  }

  /** Notes a token that is only guessed; `learn` follows before anything is chosen behind it. */
  guess(token: number): void {
    this.#push(token);
    this.#guesses++;
    for (const [i, running] of this.#running.entries())
      if (!this.sampler.processors[i]?.needsChosen) running.take?.({ token });
  }

  learn(before: readonly Choice[]): void {
    if (this.#guesses === 0) return;
    for (const choice of before.slice(-this.#guesses))
      for (const [i, running] of this.#running.entries())
        if (this.sampler.processors[i]?.needsChosen) running.take?.(choice);
    this.#guesses = 0;
  }

  #push(token: number): void {
    if (this.#length === this.#tokens.length) {
      const larger = new Int32Array(Math.max(64, 2 * this.#length));
      larger.set(this.#tokens);
      this.#tokens = larger;
    }
    this.#tokens[this.#length++] = token;
  }

  fork(): Sampling {
    return new Sampling(this.sampler, [], { past: this });
  }
}

function noToken(code: number): SwitchyardError {
  if (code === -1)
    return new SwitchyardError(
      'ERR_OPTION',
      '[sampler] got no token that is allowed, expected at least one',
      {
        hint: 'bans, forced tokens and a grammar together leave nothing: loosen one of them',
      },
    );
  return new SwitchyardError(
    'ERR_NATIVE',
    '[sampler] got logits without a largest value, expected a finite number',
    { hint: 'the model computes NaN or infinity: load it with dtype f32' },
  );
}
