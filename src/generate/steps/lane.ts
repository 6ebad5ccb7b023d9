/** One sequence as its user sees it: tokens go in, choices come out, and where its keys lie is the scheduler's affair. */
import { SwitchyardError } from '../../core/errors.js';
import type { KvSequence } from '../../nn/kv-sequence.js';
import type { Memory } from './memory.js';
import type { Choice, Choosing } from './sampling.js';

export interface LaneOptions {
  /** Lanes of a higher priority run first, and may take the blocks of others. Default 0. */
  priority?: number;
  /**
   * Lanes with the same salt read the blocks that one of them wrote where their texts begin alike; null: this lane's blocks are
   * its own. Default ''.
   */
  salt?: string | null;
  /** Keep the hidden state of each token; every token is fed, as for routing. Default false. */
  hidden?: boolean;
  /** Gather which experts the tokens meet; every token is fed, also where its block is known. Default false. */
  routing?: boolean;
  /** The first tokens see each other in both directions; they are fed in one step. Default 0. */
  prefixLength?: number;
  /** What the tokens attend over besides; the lane holds it until it is closed. Default: nothing. */
  memory?: Memory | null;
}

/** What is asked of the tokens fed last. */
export interface Ask {
  /** How the token behind the last one is chosen; null: it is not. */
  readonly sampling: Choosing | null;
  /** How the tokens behind the ones before it are: drafts to be checked. */
  readonly earlier?: readonly Choosing[];
  /** Also answer with the logits of each choice. */
  readonly logits?: boolean;
  /** Also answer with the log-probabilities as the chain of each choice leaves them. */
  readonly scores?: boolean;
  /** Also answer with the rank of each choice, and so many of the likeliest tokens. */
  readonly top?: number;
  /** No question follows, so nobody need wait for one. Default false. */
  readonly last?: boolean;
}

export interface Answer {
  /** One for each of `earlier`, and one for `sampling`. */
  readonly results: readonly Choice[];
  /** [results, V], if asked for. */
  readonly logits: Float32Array | null;
  /** [results, V], -inf for tokens that are removed, if asked for. */
  readonly scores: Float32Array | null;
  /** Of each step that fed the tokens, per sparse layer: i32 [tokens, K]. */
  readonly experts: readonly (readonly Int32Array[])[];
}

/** A question that waits for its answer. */
export interface Waiting {
  readonly ask: Ask;
  readonly experts: Int32Array[][];
  resolve(answer: Answer): void;
  reject(error: unknown): void;
}

/** What a lane needs of its scheduler. */
export interface LaneOwner {
  newSequence(salt: string | null): KvSequence;
  /** The lane has asked, or is closed. */
  wake(lane: Lane): void;
  nextOrder(): number;
  add(lane: Lane): void;
  /** Takes the lane out; resolves when no step uses its blocks any more. */
  remove(lane: Lane): Promise<void>;
}

export class Lane {
  /** All tokens that the sequence has or waits for. */
  readonly tokens: number[] = [];
  /** @internal What is in the cache; may fall behind `tokens` at any time, and is then read again. */
  sequence: KvSequence;
  /** @internal */
  waiting: Waiting | null = null;
  /** @internal The question about the token behind the one that `waiting` chooses. */
  following: Waiting | null = null;
  /** @internal Its last step failed together with others: it runs alone, to find out whose fault it was. */
  alone = false;
  /** @internal Whoever got its last answer has not asked again yet. */
  due = false;
  readonly priority: number;
  readonly salt: string | null;
  readonly routing: boolean;
  /** [D] of each token in the cache, after the final norm, if they are kept. */
  readonly hidden: Float32Array[] | null;
  readonly prefixLength: number;
  readonly memory: Memory | null;
  #closed: Promise<void> | null = null;

  /** @internal Use `Scheduler.open`. */
  constructor(
    readonly owner: LaneOwner,
    /** Place in the queue: lanes that came first run first; forks stand behind each other in one place. */
    readonly order: readonly [place: number, fork: number],
    {
      priority = 0,
      salt = '',
      routing = false,
      hidden = false,
      prefixLength = 0,
      memory = null,
    }: LaneOptions,
    sequence?: KvSequence,
  ) {
    this.priority = priority;
    this.routing = routing;
    this.hidden = hidden ? [] : null;
    this.prefixLength = prefixLength;
    this.memory = memory;
    // keys of a prefix depend on all of it, not only on what stands before them; others depend on the memory
    this.salt = prefixLength > 0 || memory ? null : salt;
    this.sequence = sequence ?? owner.newSequence(this.salt);
    owner.add(this);
  }

  get closed(): boolean {
    return this.#closed !== null;
  }

  /** Adds tokens and resolves with the choices behind them, once the scheduler had room for them. One question at a time. */
  feed(tokens: readonly number[], ask: Ask): Promise<Answer> {
    if (this.closed) return Promise.reject(aborted());
    this.#idle('feed');
    for (const token of tokens) this.tokens.push(token);
    return new Promise((resolve, reject) => {
      const put = (): void => {
        if (this.closed) reject(aborted());
        else this.waiting = { ask, experts: [], resolve, reject };
        this.owner.wake(this);
      };
      // Who waits for a grammar holds nobody else up.
      const pending = pendingOf(ask);
      if (pending.length === 0) put();
      else Promise.all(pending).then(put, reject);
    });
  }

  /**
   * Asks about the token behind the one that the question which waits chooses last; that one is fed as soon as it is chosen, by a
   * step that may begin before the answer is here. null: no question waits, or one stands behind it already.
   */
  follow(ask: Ask): Promise<Answer> | null {
    if (!this.waiting?.ask.sampling || this.following || this.closed) return null;
    return new Promise((resolve, reject) => {
      this.following = { ask, experts: [], resolve, reject };
      this.owner.wake(this);
    });
  }

  /** @internal `waiting` has its answer: the next question takes its place, and what was chosen stands before it. */
  goOn(choice: Choice | undefined): void {
    const { following, sequence, tokens } = this;
    this.waiting = following;
    this.following = null;
    if (!following) return;
    if (choice && choice.token >= 0) {
      tokens.push(choice.token);
      if (sequence.length >= tokens.length) sequence.learn([choice.token]);
    } else {
      this.fail(aborted());
      sequence.release(); // a step may run that feeds a token in vain
    }
  }

  /** @internal Whoever waits for an answer gets the error instead. */
  fail(error: unknown): void {
    for (const question of [this.waiting, this.following]) question?.reject(error);
    this.waiting = this.following = null;
  }

  /** Drops the tokens from `length` on. */
  truncate(length: number): void {
    this.#idle('truncate');
    this.tokens.length = Math.min(this.tokens.length, length);
    if (this.sequence.length > length) this.sequence.truncate(length);
    if (this.hidden) this.hidden.length = Math.min(this.hidden.length, this.tokens.length);
  }

  /** A lane with the same tokens in the same blocks, of the same place in the queue. */
  fork(): Lane {
    this.#idle('fork');
    const { priority, salt, routing, prefixLength } = this;
    const hidden = this.hidden !== null;
    const options = { priority, salt, routing, hidden, prefixLength, memory: this.memory?.hold() ?? null };
    const order = [this.order[0], this.owner.nextOrder()] as const;
    const twin = new Lane(this.owner, order, options, this.sequence.fork());
    for (const token of this.tokens) twin.tokens.push(token);
    for (const state of this.hidden ?? []) twin.hidden?.push(state);
    return twin;
  }

  /** At any time; resolves when its blocks are free. A question that waits is answered with ERR_ABORTED then. */
  close(): Promise<void> {
    this.#closed ??= this.owner.remove(this).then(() => {
      this.sequence.release();
      this.memory?.release();
      this.fail(aborted());
      this.owner.wake(this);
    });
    return this.#closed;
  }

  #idle(what: string): void {
    if (this.waiting)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[lane] got ${what} while a question waits, expected its answer first`,
      );
  }
}

function pendingOf({ earlier, sampling }: Ask): Promise<unknown>[] {
  const all: Promise<unknown>[] = [];
  for (const one of [...(earlier ?? []), sampling]) {
    const pending = one?.pending;
    if (pending) all.push(pending);
  }
  return all;
}

const aborted = (): SwitchyardError =>
  new SwitchyardError('ERR_ABORTED', '[generate] got an abort, expected to finish');
