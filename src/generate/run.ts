/** What a decoding strategy works with: the lanes of one request, closed together when it ends or is aborted. */
import { SwitchyardError } from '../core/errors.js';
import type { Continuation, GeneratedPart } from './continuation.js';
import { scored } from './likelihood.js';
import type { Answer, Ask, Lane, LaneOptions } from './steps/lane.js';
import type { Memory } from './steps/memory.js';
import type { Choosing } from './steps/sampling.js';
import { microtasks, type Scheduler } from './steps/scheduler.js';

/** How a request is decoded: gives out the parts of its text in order, and leaves the rest in its continuation. */
export type Strategy = (run: Run) => AsyncGenerator<GeneratedPart>;

export class Run {
  readonly #lanes = new Set<Lane>();
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort = (): void => void this.#closeAll();
  #ended = false;
  #memory: Memory | null = null;
  /** Of the prompt's echo: they belong to its answer. */
  readonly #unread: (readonly Int32Array[])[] = [];

  constructor(
    readonly scheduler: Scheduler,
    readonly continuation: Continuation,
    readonly laneOptions: LaneOptions,
    signal: AbortSignal | undefined,
    /** Encodes what all lanes attend over; null: nothing. */
    readonly remember: (() => Promise<Memory>) | null = null,
    /** Told of every answer: timings, routing. */
    readonly answered: (answer: Answer) => void = () => undefined,
    /** A lane with the beginning of the prompt, which stays open. */
    readonly origin: Lane | null = null,
  ) {
    this.#signal = signal;
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** A lane of its own, which may have the beginning of the prompt already, but not where hidden states are kept. */
  open({ hidden = false }: { hidden?: boolean } = {}): Lane {
    if (this.origin && !hidden) return this.#add(this.origin.fork());
    const memory = (this.#memory ?? this.origin?.memory)?.hold() ?? null;
    return this.#add(this.scheduler.open({ ...this.laneOptions, hidden, memory }));
  }

  /** Feeds what the lane does not have of the prompt. */
  prompt(lane: Lane, ask: Ask): Promise<Answer> {
    const { prompt, wantsEcho } = this.continuation;
    const rest = (): Promise<Answer> => this.feed(lane, prompt.slice(lane.tokens.length), ask);
    return wantsEcho ? this.echo(lane).then(rest) : rest();
  }

  /** Feeds all but the last token of the prompt to a new lane, and notes how likely each one was. */
  async echo(lane: Lane): Promise<void> {
    const { prompt, top = 0 } = this.continuation;
    const [first, ...rest] = prompt as [number, ...number[]];
    this.continuation.echoed = await scored(lane, first, rest, top, ({ experts }) =>
      this.#unread.push(...experts),
    );
  }

  fork(lane: Lane): Lane {
    return this.#add(lane.fork());
  }

  async close(lane: Lane): Promise<void> {
    this.#lanes.delete(lane);
    await lane.close();
  }

  /** `lane.feed`; may be awaited at any later time. */
  feed(lane: Lane, tokens: readonly number[], ask: Ask): Promise<Answer> {
    return this.#told(lane.feed(tokens, this.#wanted(ask)));
  }

  /** `lane.follow`, likewise. */
  feedNext(lane: Lane, ask: Ask): Promise<Answer> | null {
    const answer = lane.follow(this.#wanted(ask));
    return answer && this.#told(answer);
  }

  #wanted(ask: Ask): Ask {
    const { top } = this.continuation;
    // who asks for logits finds the likeliest tokens there
    return top === undefined || ask.sampling === null || ask.logits ? ask : { ...ask, top };
  }

  #told(answer: Promise<Answer>): Promise<Answer> {
    const told = answer.then((given) => {
      const unread = this.#unread.splice(0);
      this.answered(unread.length === 0 ? given : { ...given, experts: [...unread, ...given.experts] });
      return given;
    });
    told.catch(() => undefined);
    return told;
  }

  /** Runs a strategy to its end; all lanes are closed then. */
  async *follow(strategy: Strategy): AsyncGenerator<GeneratedPart> {
    try {
      this.#signal?.throwIfAborted();
      const { finished, wantsEcho } = this.continuation;
      if (finished && !wantsEcho) return;
      if (this.remember) this.#memory = await this.remember();
      this.#signal?.throwIfAborted();
      if (finished) await this.echo(this.open());
      else yield* strategy(this);
    } catch (error) {
      if (!this.#signal?.aborted) throw error;
      throw new SwitchyardError('ERR_ABORTED', '[generate] got an abort, expected to finish', {
        cause: this.#signal.reason,
      });
    } finally {
      await this.end();
    }
  }

  async end(): Promise<void> {
    this.#signal?.removeEventListener('abort', this.#onAbort);
    await this.#closeAll();
    this.#memory?.release();
    this.#memory = null;
    this.continuation.close();
  }

  async #closeAll(): Promise<void> {
    this.#ended = true;
    await Promise.all([...this.#lanes].map((lane) => lane.close()));
  }

  #add(lane: Lane): Lane {
    this.#lanes.add(lane);
    if (this.#ended) void lane.close(); // its first question will be refused
    return lane;
  }
}

/** One token after the other. Where it does not need to know a token to ask for the one behind it, it is one question ahead. */
export async function* plain(run: Run): AsyncGenerator<GeneratedPart> {
  const { continuation } = run;
  const { sampling, maxTokens, tokens, prompt } = continuation;
  const lane = run.open();
  if (continuation.wantsEcho) await run.echo(lane);
  const question = (chooses: Choosing, ahead: number): Ask => ({
    sampling: chooses,
    last: tokens.length + ahead >= maxTokens,
  });
  const ahead = (): Promise<Answer> | null => {
    const next = tokens.length + 2 > maxTokens ? null : sampling.ahead();
    return next && run.feedNext(lane, question(next, 2));
  };
  let pending: Promise<Answer> | null = run.feed(
    lane,
    prompt.slice(lane.tokens.length),
    question(sampling, 1),
  );
  let following = ahead();
  while (pending && !continuation.finished) {
    const answer: Answer = await pending;
    const [choice] = answer.results;
    if (!choice) return;
    const last = continuation.take(choice);
    pending = last ? null : (following ?? run.feed(lane, [choice.token], question(sampling, 1)));
    following = last ? null : ahead();
    // the next step, of all sequences, starts before any of their tokens is decoded and handed out
    if (pending) await microtasks();
    yield continuation.decode();
  }
}
