/**
 * Who takes part in the next step:
 * 1. All lanes that wait are put in order: priority, then arrival.
 * 2. Each gets blocks for its tokens. Where none are free, lanes behind it, and lanes that wait for nothing, give theirs back
 *    (preemption); they read their tokens again later. A lane that is not in the cache comes in when there is room for all of it.
 * 3. Tokens of decoding lanes come first; what is left of a step of MAX_CHUNK tokens goes to prompts, piece by piece.
 */
import { SwitchyardError } from '../../core/errors.js';
import { type BlockPool, KV_BLOCK } from '../../nn/kv-blocks.js';
import type { SequenceMark } from '../../nn/kv-sequence.js';
import type { Lane, Waiting } from './lane.js';
import { chosenBefore, MAX_CHUNK, type StepRow } from './step-inputs.js';

/** Tokens up to which a lane in the cache counts as decoding: one, or a few drafts. */
const DECODING = 16;

/** A lane's part in a step. */
export interface Planned {
  readonly lane: Lane;
  readonly waiting: Waiting;
  /** Where the sequence stood before, and how long it is behind the step. */
  readonly mark: SequenceMark;
  readonly end: number;
  readonly row: StepRow;
  /** Whether it feeds the last of the lane's tokens, which brings the answer. */
  readonly answers: boolean;
  /** The number of its last choice among the results of the step. */
  readonly result: number;
  /** Tokens whose blocks were found. */
  readonly shared: number;
}

/** What a lane has to feed. */
interface Turn {
  readonly lane: Lane;
  readonly waiting: Waiting;
  /** The number of the choice, in the step before, that is the token to be fed; null: tokens are known. */
  readonly after: number | null;
}

/** No step can be planned before the one that runs has ended. */
const LATER = Symbol('later');

export class Planner {
  /** Lanes that had to give their blocks back. */
  preemptions = 0;

  constructor(
    readonly pool: BlockPool,
    readonly lanes: ReadonlySet<Lane>,
    /** A lane whose sequence will never fit gets the error. */
    readonly refuse: (lane: Lane, error: SwitchyardError) => void,
  ) {}

  /** The next step when none runs; empty: nobody can be served. */
  next(): Planned[] {
    const turns = this.#turns(null);
    const suspect = turns.find(({ lane }) => lane.alone);
    return this.#plan(suspect ? [suspect] : turns, null) as Planned[];
  }

  /**
   * The step behind one that runs, where all that is needed for it is known: of each lane that gets its answer the next question,
   * and room without sending anybody out of the cache. Else empty.
   */
  ahead(before: readonly Planned[]): Planned[] {
    const parts = new Map(before.map((part) => [part.lane, part]));
    for (const { lane, answers, waiting } of before)
      if (answers && !lane.following && !waiting.ask.last && !lane.closed) return [];
    const turns = this.#turns(parts);
    if (turns.some(({ lane }) => lane.alone)) return [];
    const planned = this.#plan(turns, before);
    return planned === LATER ? [] : planned;
  }

  /** Lanes that have something to feed, in their order. */
  #turns(before: ReadonlyMap<Lane, Planned> | null): Turn[] {
    const turns: Turn[] = [];
    for (const lane of this.lanes) {
      const part = before?.get(lane);
      const after = part?.answers ? part.result : null;
      const waiting = after === null ? lane.waiting : lane.following;
      if (waiting) turns.push({ lane, waiting, after });
    }
    return turns.sort((a, b) => inTurn(a.lane, b.lane));
  }

  #plan(turns: readonly Turn[], before: readonly Planned[] | null): Planned[] | typeof LATER {
    const planned: Planned[] = [];
    const decoding = turns.map(decodingTokens);
    let kept = 0; // tokens of decoding lanes that are still to come
    for (const tokens of decoding) kept += tokens;
    let room = MAX_CHUNK;
    let results = 0;
    let admits = true;
    for (const [i, turn] of turns.entries()) {
      if (room === 0) break;
      const { lane } = turn;
      const tokens = decoding[i] as number;
      kept -= tokens;
      const resident = lane.sequence.length > 0;
      if (!resident && !admits) continue;
      const limit = tokens > 0 ? room : Math.max(0, room - kept);
      const part = limit > 0 ? this.#place(turn, limit, planned, results, before !== null) : null;
      if (part === LATER) {
        for (const { lane, mark } of planned.reverse()) lane.sequence.rollback(mark);
        return LATER;
      }
      if (part) {
        planned.push(part);
        room = Math.max(0, room - part.row.tokens.length);
        results = part.result + 1;
      } else if (!resident && limit > 0 && lane.waiting) {
        admits = false; // those behind it may be smaller, but they came later
      }
    }
    return planned;
  }

  /** Gives a lane blocks for its next tokens, at most `limit`; null if there is no room now. */
  #place(
    turn: Turn,
    limit: number,
    planned: readonly Planned[],
    results: number,
    ahead: boolean,
  ): Planned | typeof LATER | null {
    const { lane, waiting, after } = turn;
    const { sequence, tokens } = lane;
    const { pool } = this;
    if (sequence.length + unfed(turn) > pool.blocks * KV_BLOCK) {
      if (ahead) return LATER;
      this.#tooLong(lane);
      return null;
    }
    const { sampling, earlier = [] } = waiting.ask;
    const choices = sampling ? earlier.length + 1 : 0;
    const mark = sequence.mark();
    const resident = sequence.length > 0;
    // the tokens with a choice behind them are always fed, and at least one is
    const shared =
      lane.routing || lane.hidden || after !== null
        ? 0
        : sequence.adopt(tokens, sequence.length, tokens.length - Math.max(1, choices));
    const left = unfed(turn);
    const count = pieceOf(left, Math.max(limit, lane.prefixLength - sequence.length), choices);
    // Coming in takes room for the whole text and a block to grow, lest a lane comes in only to be sent out again.
    const wanted = resident ? sequence.blocksFor(count) : sequence.blocksFor(left + KV_BLOCK);
    let fits = wanted <= pool.free;
    if (!fits && ahead) {
      sequence.rollback(mark);
      return resident || this.#victim(lane, planned) ? LATER : null;
    }
    while (!fits && this.#preempt(lane, planned)) fits = wanted <= pool.free;
    const lonely = planned.length === 0 && this.#alone(lane);
    if (!fits && !(lonely && sequence.blocksFor(count) <= pool.free)) {
      sequence.rollback(mark);
      if (lonely) this.#tooLong(lane);
      return null;
    }
    const known = after === null ? tokens.slice(sequence.length, sequence.length + count) : null;
    const slots = known ? sequence.extend(known) : sequence.reserve(1);
    const fed = known ?? [chosenBefore(after as number)];
    const { prefixLength, memory } = lane;
    const answers = count === left;
    const scored = waiting.ask.scores === true;
    const row: StepRow = answers
      ? { sequence, tokens: fed, slots, prefixLength, memory, sampling, earlier, scored }
      : { sequence, tokens: fed, slots, prefixLength, memory, sampling: null };
    const result = results + (answers ? choices : 0) - 1;
    return { lane, waiting, mark, end: sequence.length, row, answers, result, shared };
  }

  /** Who is sent out of the cache for `lane`: one that waits for nothing, else the last one behind it. */
  #victim(lane: Lane, planned: readonly Planned[]): Lane | undefined {
    const taken = new Set(planned.map((p) => p.lane));
    const [victim] = [...this.lanes]
      .filter((other) => other !== lane && other.sequence.length > 0 && !taken.has(other))
      .filter((other) => other.waiting === null || inTurn(lane, other) < 0)
      .sort((a, b) => Number(a.waiting !== null) - Number(b.waiting !== null) || inTurn(b, a));
    return victim;
  }

  #preempt(lane: Lane, planned: readonly Planned[]): boolean {
    const victim = this.#victim(lane, planned);
    if (!victim) return false;
    victim.sequence.release();
    this.preemptions++;
    return true;
  }

  #alone(lane: Lane): boolean {
    return [...this.lanes].every((other) => other === lane || other.sequence.length === 0);
  }

  #tooLong(lane: Lane): void {
    const { blocks } = this.pool;
    const error = new SwitchyardError(
      'ERR_CONTEXT_LENGTH',
      `[generate] got a sequence of ${lane.tokens.length} tokens, expected at most the ${blocks * KV_BLOCK} that the cache holds`,
      { hint: 'load the model with a larger cacheTokens' },
    );
    this.refuse(lane, error);
  }
}

const inTurn = (a: Lane, b: Lane): number =>
  b.priority - a.priority || a.order[0] - b.order[0] || a.order[1] - b.order[1];

/** Tokens that are not in the cache: fewer once their blocks were found, all once the lane was sent out. */
const unfed = ({ lane, after }: Turn): number =>
  after === null ? lane.tokens.length - lane.sequence.length : 1;

/** Tokens that a decoding lane wants to feed; 0 for others. */
function decodingTokens(turn: Turn): number {
  const left = unfed(turn);
  return turn.lane.sequence.length > 0 && left <= DECODING ? left : 0;
}

/** How many of the `left` tokens are fed: those with choices stay in one piece. */
function pieceOf(left: number, limit: number, choices: number): number {
  if (left <= limit || left <= choices) return left;
  return Math.min(limit, left - choices);
}
