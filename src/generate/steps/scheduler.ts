/**
 * Continuous batching (Yu et al. 2022): whoever has tokens to feed shares the next step, and each lane comes and goes on its
 * own. Between two steps:
 * 1. All lanes that wait are put in order: priority, then arrival.
 * 2. Each gets blocks for its tokens. Where none are free, lanes behind it, and lanes that wait for nothing, give theirs back
 *    (preemption); they read their tokens again later. A lane that is not in the cache comes in when there is room for all of it.
 * 3. Tokens of decoding lanes come first; what is left of a step of MAX_CHUNK tokens goes to prompts, piece by piece.
 * A token's numbers depend on its own sequence alone (docs/architecture.md, "Bits"): no choice made here changes a text.
 */
import type { NativeAbort } from '../../core/addon.js';
import { SwitchyardError } from '../../core/errors.js';
import { KV_BLOCK } from '../../nn/kv-blocks.js';
import type { KvSequence, SequenceMark } from '../../nn/kv-sequence.js';
import { MAX_CHUNK, type StepEngine, type StepOptions } from './engine.js';
import { Lane, type LaneOptions, type LaneOwner, type Waiting } from './lane.js';
import type { Choice } from './sampling.js';
import type { StepOutput } from './step-form.js';
import type { StepRow } from './step-inputs.js';

/** Tokens up to which a lane in the cache counts as decoding: one, or a few drafts. */
const DECODING = 16;

interface Planned {
  readonly lane: Lane;
  readonly waiting: Waiting;
  readonly mark: SequenceMark;
  readonly row: StepRow;
}

export interface SchedulerStatistics {
  /** Steps run. */
  readonly steps: number;
  /** Tokens computed, and tokens whose blocks were found in the cache instead. */
  readonly fedTokens: number;
  readonly sharedTokens: number;
  /** Lanes that had to give their blocks back. */
  readonly preemptions: number;
}

export class Scheduler implements LaneOwner {
  readonly #lanes = new Set<Lane>();
  readonly #statistics = { steps: 0, fedTokens: 0, sharedTokens: 0, preemptions: 0 };
  /** The running step, what ends it early, and its end. */
  #step: { readonly planned: readonly Planned[]; readonly abort: NativeAbort } | null = null;
  #taken: Promise<void> = Promise.resolve();
  #running = false;
  /** Of all steps, until one is aborted by it: making one for each step costs microseconds. */
  #abort: NativeAbort | null = null;
  #opened = 0;
  /** Lanes that were answered and may ask again, what ends the wait for them, and whether it soon ends by itself. */
  #due = 0;
  #goOn: (() => void) | null = null;
  #hurried = false;

  constructor(readonly engine: StepEngine) {}

  get statistics(): SchedulerStatistics {
    return { ...this.#statistics };
  }

  open(options: LaneOptions = {}): Lane {
    return new Lane(this, [this.nextOrder(), 0], options);
  }

  /** @internal */
  nextOrder(): number {
    return this.#opened++;
  }

  /** @internal */
  newSequence(salt: string | null): KvSequence {
    return this.engine.newSequence({ salt });
  }

  /** @internal */
  add(lane: Lane): void {
    this.#lanes.add(lane);
  }

  /** @internal */
  async remove(lane: Lane): Promise<void> {
    this.#lanes.delete(lane);
    const step = this.#step;
    if (!step?.planned.some((part) => part.lane === lane)) return;
    if (step.planned.every((part) => !this.#lanes.has(part.lane))) {
      this.engine.device.addon.abort(step.abort);
      this.#abort = null;
    }
    await this.#taken;
  }

  /** @internal Starts once all that is about to happen in this turn has happened: calls made together run together. */
  wake(lane: Lane): void {
    if (lane.due) {
      lane.due = false;
      this.#due--;
    }
    if (this.#due === 0) this.#goOn?.();
    else this.#hurry();
    if (this.#running) return;
    this.#running = true;
    queueMicrotask(() => void this.#run());
  }

  async #run(): Promise<void> {
    try {
      await microtasks();
      for (;;) {
        const planned = this.#plan();
        if (planned.length === 0) break;
        this.#taken = this.#take(planned);
        await this.#taken;
        if (this.#due > 0) await this.#asked();
      }
    } catch (error) {
      for (const lane of this.#lanes) this.#answered(lane)?.reject(error);
    }
    this.#running = false;
  }

  /** Resolves when all who were answered have asked again, so that the next step runs while they use what they got. */
  async #asked(): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#goOn = resolve;
      this.#hurried = false;
      for (const lane of this.#lanes) if (lane.waiting) this.#hurry();
    });
    this.#goOn = null;
    for (const lane of this.#lanes) lane.due = false;
    this.#due = 0;
  }

  /** Somebody waits: whoever is due and has not asked when no microtask is left does something else. */
  #hurry(): void {
    const goOn = this.#goOn;
    if (!goOn || this.#hurried) return;
    this.#hurried = true;
    process.nextTick(goOn);
  }

  /** Lanes that wait, in their order; one alone that has to show whether a step fails because of it. */
  #queue(): Lane[] {
    const queue: Lane[] = [];
    for (const lane of this.#lanes) if (lane.waiting) queue.push(lane);
    queue.sort(inTurn);
    const suspect = queue.find((lane) => lane.alone);
    return suspect ? [suspect] : queue;
  }

  #plan(): Planned[] {
    const queue = this.#queue();
    const planned: Planned[] = [];
    const decoding = queue.map(decodingTokens);
    let kept = 0; // tokens of decoding lanes that are still to come
    for (const tokens of decoding) kept += tokens;
    let room = MAX_CHUNK;
    let admits = true;
    for (const [i, lane] of queue.entries()) {
      if (room === 0) break;
      const tokens = decoding[i] as number;
      kept -= tokens;
      const resident = lane.sequence.length > 0;
      if (!resident && !admits) continue;
      const limit = tokens > 0 ? room : Math.max(0, room - kept);
      const part = limit > 0 ? this.#place(lane, limit, planned) : null;
      if (part) {
        planned.push(part);
        room = Math.max(0, room - part.row.tokens.length);
      } else if (!resident && limit > 0 && lane.waiting) {
        admits = false; // those behind it may be smaller, but they came later
      }
    }
    return planned;
  }

  /** Gives a lane blocks for its next tokens, at most `limit`; null if there is no room now. */
  #place(lane: Lane, limit: number, planned: readonly Planned[]): Planned | null {
    const { sequence, tokens } = lane;
    const { pool } = this.engine.cache;
    if (tokens.length > pool.blocks * KV_BLOCK) {
      this.#refuse(lane);
      return null;
    }
    const waiting = lane.waiting as Waiting;
    const { sampling, earlier = [] } = waiting.ask;
    const choices = sampling ? earlier.length + 1 : 0;
    const mark = sequence.mark();
    const resident = sequence.length > 0;
    // the tokens with a choice behind them are always fed, and at least one is
    const shared =
      lane.routing || lane.hidden
        ? 0
        : sequence.adopt(tokens, sequence.length, tokens.length - Math.max(1, choices));
    const left = tokens.length - sequence.length;
    const count = pieceOf(left, Math.max(limit, lane.prefixLength - sequence.length), choices);
    // Coming in takes room for the whole text and a block to grow, lest a lane comes in only to be sent out again.
    const wanted = resident ? sequence.blocksFor(count) : sequence.blocksFor(left + KV_BLOCK);
    let fits = wanted <= pool.free;
    while (!fits && this.#preempt(lane, planned)) fits = wanted <= pool.free;
    const lonely = planned.length === 0 && this.#alone(lane);
    if (!fits && !(lonely && sequence.blocksFor(count) <= pool.free)) {
      sequence.rollback(mark);
      if (lonely) this.#refuse(lane);
      return null;
    }
    const { prefixLength } = lane;
    const fed = tokens.slice(sequence.length, sequence.length + count);
    const slots = sequence.extend(fed);
    this.#statistics.fedTokens += count;
    this.#statistics.sharedTokens += shared;
    const { memory } = lane;
    const row: StepRow =
      count === left
        ? { sequence, tokens: fed, slots, prefixLength, memory, sampling, earlier }
        : { sequence, tokens: fed, slots, prefixLength, memory, sampling: null };
    return { lane, waiting, mark, row };
  }

  /** Sends one lane out of the cache: one that waits for nothing, else the last one behind `lane`. */
  #preempt(lane: Lane, planned: readonly Planned[]): boolean {
    const taken = new Set(planned.map((p) => p.lane));
    const others = [...this.#lanes]
      .filter((other) => other !== lane && other.sequence.length > 0 && !taken.has(other))
      .filter((other) => other.waiting === null || inTurn(lane, other) < 0)
      .sort((a, b) => Number(a.waiting !== null) - Number(b.waiting !== null) || inTurn(b, a));
    const [victim] = others;
    if (!victim) return false;
    victim.sequence.release();
    this.#statistics.preemptions++;
    return true;
  }

  #alone(lane: Lane): boolean {
    return [...this.#lanes].every((other) => other === lane || other.sequence.length === 0);
  }

  #refuse(lane: Lane): void {
    const { blocks } = this.engine.cache;
    const error = new SwitchyardError(
      'ERR_CONTEXT_LENGTH',
      `[generate] got a sequence of ${lane.tokens.length} tokens, expected at most the ${blocks * KV_BLOCK} that the cache holds`,
      { hint: 'load the model with a larger cacheTokens' },
    );
    this.#answered(lane)?.reject(error);
  }

  async #take(planned: readonly Planned[]): Promise<void> {
    const { engine } = this;
    this.#abort ??= engine.device.addon.createAbort();
    const abort = this.#abort;
    this.#step = { planned, abort };
    this.#statistics.steps++;
    try {
      const output = await engine.step(
        planned.map((p) => p.row),
        wantedOf(planned, abort),
      );
      for (const { lane } of planned) lane.sequence.commit();
      this.#hand(planned, output);
    } catch (error) {
      for (const { lane, mark } of planned) lane.sequence.rollback(mark);
      if (planned.length > 1) for (const { lane } of planned) lane.alone = true;
      else for (const { lane } of planned) this.#answered(lane)?.reject(error);
    } finally {
      this.#step = null;
    }
  }

  /** Gives each lane its part of a step. */
  #hand(planned: readonly Planned[], { results, logits, scores, hidden, experts }: StepOutput): void {
    const { vocabSize, dModel, topK: k } = this.engine.model;
    let token = 0;
    let result = 0;
    for (const { lane, waiting, row, mark } of planned) {
      const { sampling, earlier = [], tokens } = row;
      const count = sampling ? earlier.length + 1 : 0;
      const end = token + tokens.length;
      if (lane.routing) waiting.experts.push(experts.map((ids) => ids.slice(token * k, end * k)));
      if (lane.hidden && hidden)
        for (let i = 0; i < tokens.length; i++)
          lane.hidden[mark.length + i] = hidden.slice((token + i) * dModel, (token + i + 1) * dModel);
      token = end;
      const { ask } = waiting;
      const own = results.slice(result, result + count);
      const [from, to] = [result * vocabSize, (result + count) * vocabSize];
      result += count;
      lane.alone = false;
      if (lane.sequence.length < lane.tokens.length) continue;
      this.#answered(lane)?.resolve({
        results: ask.top === undefined ? own : own.map((choice) => likeliest(choice, ask.top)),
        logits: logits && ask.logits ? logits.slice(from, to) : null,
        scores: scores && ask.scores ? scores.slice(from, to) : null,
        experts: waiting.experts,
      });
    }
  }

  /** Whom to give the lane's answer; null: `close` tells whoever waits. */
  #answered(lane: Lane): Waiting | null {
    const { waiting } = lane;
    lane.alone = false;
    if (!waiting || lane.closed) return null;
    lane.waiting = null;
    lane.due = true;
    this.#due++;
    return waiting;
  }
}

/** What a step must give so that each lane finds what it asked for. */
function wantedOf(planned: readonly Planned[], abort: NativeAbort): StepOptions {
  let [routing, hidden, logits, scores, top] = [false, false, false, false, -1];
  for (const { lane, row, waiting } of planned) {
    routing ||= lane.routing;
    hidden ||= lane.hidden !== null;
    if (row.sampling === null) continue;
    const { ask } = waiting;
    logits ||= ask.logits === true;
    scores ||= ask.scores === true;
    top = Math.max(top, ask.top ?? -1);
  }
  return { abort, routing, hidden, logits, scores, ...(top >= 0 ? { top } : {}) };
}

const likeliest = (choice: Choice, n = 0): Choice => ({ ...choice, top: (choice.top ?? []).slice(0, n) });

const inTurn = (a: Lane, b: Lane): number =>
  b.priority - a.priority || a.order[0] - b.order[0] || a.order[1] - b.order[1];

/** Tokens that a decoding lane wants to feed; 0 for others. */
function decodingTokens({ tokens, sequence }: Lane): number {
  const left = tokens.length - sequence.length;
  return sequence.length > 0 && left <= DECODING ? left : 0;
}

/** How many of the `left` tokens are fed: those with choices stay in one piece. */
function pieceOf(left: number, limit: number, choices: number): number {
  if (left <= limit || left <= choices) return left;
  return Math.min(limit, left - choices);
}

/** Resolves when no microtask is left: everyone who was answered has had the chance to ask again, and the next step runs. */
export const microtasks = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));
