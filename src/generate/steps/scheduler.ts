/**
 * Continuous batching (Yu et al. 2022): whoever has tokens to feed shares the next step, and each lane comes and goes on its
 * own. Between two steps a planner says who takes part (planner.ts). Where it is known before a step has ended, the next one
 * is begun meanwhile, and native code goes from one to the other without waiting for JavaScript.
 * A token's numbers depend on its own sequence alone (docs/architecture.md, "Bits"): no choice made here changes a text.
 */
import type { NativeAbort } from '../../core/addon.js';
import type { KvSequence } from '../../nn/kv-sequence.js';
import type { BegunStep, StepEngine, StepOptions } from './engine.js';
import { type Answer, Lane, type LaneOptions, type LaneOwner } from './lane.js';
import { type Planned, Planner } from './planner.js';
import type { Choice } from './sampling.js';
import type { StepOutput } from './step-form.js';

export interface SchedulerStatistics {
  /** Steps run. */
  readonly steps: number;
  /** Tokens computed, and tokens whose blocks were found in the cache instead. */
  readonly fedTokens: number;
  readonly sharedTokens: number;
  /** Lanes that had to give their blocks back. */
  readonly preemptions: number;
}

/** A step that was begun and whose answers have not been given. */
interface Step {
  readonly planned: readonly Planned[];
  readonly abort: NativeAbort;
  aborted: boolean;
  readonly begun: Promise<BegunStep>;
  /** Who waits until the lanes have left it. */
  readonly leaving: (() => void)[];
}

export class Scheduler implements LaneOwner {
  readonly #lanes = new Set<Lane>();
  readonly #planner: Planner;
  readonly #statistics = { steps: 0, fedTokens: 0, sharedTokens: 0 };
  /** At most two. */
  readonly #steps = new Set<Step>();
  /** Making one for each step costs microseconds. */
  readonly #aborts: NativeAbort[] = [];
  #running = false;
  #opened = 0;
  /** Lanes that were answered and may ask again, what ends the wait for them, and whether it soon ends by itself. */
  #due = 0;
  #goOn: (() => void) | null = null;
  #hurried = false;

  constructor(readonly engine: StepEngine) {
    this.#planner = new Planner(engine.cache.pool, this.#lanes, (lane, error) => this.#fail(lane, error));
  }

  get statistics(): SchedulerStatistics {
    return { ...this.#statistics, preemptions: this.#planner.preemptions };
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
    const steps = [...this.#steps].filter(({ planned }) => planned.some((part) => part.lane === lane));
    for (const step of steps) {
      if (step.planned.some((part) => this.#lanes.has(part.lane))) continue;
      step.aborted = true;
      this.engine.device.addon.abort(step.abort);
    }
    await Promise.all(steps.map(({ leaving }) => new Promise<void>((resolve) => leaving.push(resolve))));
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
    let step: Step | null = null;
    try {
      await microtasks();
      for (;;) {
        step ??= this.#begin(this.#planner.next());
        if (!step) break;
        const next: Step | null = this.engine.runsAhead ? await this.#ahead(step) : null;
        step = (await this.#finish(step, next)) ? next : null;
        if (this.#due > 0) await this.#asked(step !== null);
      }
    } catch (error) {
      for (const lane of this.#lanes) this.#fail(lane, error);
    }
    this.#running = false;
  }

  /**
   * Resolves when all who were answered have asked again, so that the next step runs while they use what they got.
   * @param running whether a step runs meanwhile: it must be finished even if nobody asks, since who has left waits for its end
   */
  async #asked(running: boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#goOn = resolve;
      this.#hurried = false;
      if (running) this.#hurry();
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

  #begin(planned: readonly Planned[]): Step | null {
    if (planned.length === 0) return null;
    const { engine } = this;
    const abort = this.#aborts.pop() ?? engine.device.addon.createAbort();
    this.#statistics.steps++;
    for (const { row, shared } of planned) {
      this.#statistics.fedTokens += row.tokens.length;
      this.#statistics.sharedTokens += shared;
    }
    const begun = engine.begin(
      planned.map((part) => part.row),
      wantedOf(planned, abort),
    );
    begun.catch(() => undefined); // told by #finish
    const step = { planned, abort, aborted: false, begun, leaving: [] };
    this.#steps.add(step);
    return step;
  }

  /** The step behind one that runs, begun already; null: it has to wait. */
  async #ahead({ begun, planned }: Step): Promise<Step | null> {
    const step = await begun.catch(() => null); // told by #finish
    return step?.output instanceof Promise ? this.#begin(this.#planner.ahead(planned)) : null;
  }

  /** Gives the answers of a step. false: it failed, and so did `next`, which builds on it. */
  async #finish(step: Step, next: Step | null): Promise<boolean> {
    const { planned, begun } = step;
    try {
      const { output } = await begun;
      const given = await output;
      for (const { lane, end } of planned) lane.sequence.commit(end);
      this.#hand(planned, given);
      return true;
    } catch (error) {
      if (next) await this.#drop(next);
      for (const { lane, mark } of planned) lane.sequence.rollback(mark);
      if (planned.length > 1) for (const { lane } of planned) lane.alone = true;
      else for (const { lane } of planned) this.#fail(lane, error);
      return false;
    } finally {
      this.#leave(step);
    }
  }

  /** A step whose results mean nothing. */
  async #drop(step: Step): Promise<void> {
    await step.begun.then(({ output }) => output).catch(() => undefined);
    for (const { lane, mark } of step.planned) lane.sequence.rollback(mark);
    this.#leave(step);
  }

  #leave(step: Step): void {
    this.#steps.delete(step);
    if (!step.aborted) this.#aborts.push(step.abort);
    for (const resolve of step.leaving) resolve();
  }

  /** Gives each lane its part of a step. */
  #hand(planned: readonly Planned[], { results, logits, scores, hidden, experts }: StepOutput): void {
    const { vocabSize, dModel, topK: k } = this.engine.model;
    let token = 0;
    let result = 0;
    for (const part of planned) {
      const { lane, waiting, row, mark, answers } = part;
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
      if (!answers) continue;
      this.#answer(part, {
        results: ask.top === undefined ? own : own.map((choice) => likeliest(choice, ask.top)),
        logits: logits && ask.logits ? logits.slice(from, to) : null,
        scores: scores && ask.scores ? scores.slice(from, to) : null,
        experts: waiting.experts,
      });
    }
  }

  #answer({ lane, waiting }: Planned, answer: Answer): void {
    if (lane.waiting !== waiting || lane.closed) return; // `close` tells whoever waits
    lane.goOn(answer.results.at(-1));
    this.#expect(lane);
    waiting.resolve(answer);
  }

  #fail(lane: Lane, error: unknown): void {
    lane.alone = false;
    if (!lane.waiting || lane.closed) return;
    lane.fail(error);
    this.#expect(lane);
  }

  /** Whoever got an answer may ask again. */
  #expect(lane: Lane): void {
    if (!lane.due) this.#due++;
    lane.due = true;
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

/** Resolves when no microtask is left: everyone who was answered has had the chance to ask again, and the next step runs. */
export const microtasks = (): Promise<void> => new Promise((resolve) => process.nextTick(resolve));
