/** What a sampler is made of: processors, each of which changes scores or removes tokens. */

import { SwitchyardError } from '../../core/errors.js';
import { checkToken } from '../../models/decoder/ragged.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import type { ChainBatch } from './chain-batch.js';

/** What a processor may know of the sequence that it works on. */
export interface SequenceContext {
  /** Tokens that end the text. */
  readonly endIds: ReadonlySet<number>;
  readonly vocabSize?: number;
  readonly tokenizer?: Tokenizer;
}

/** Where the token to be chosen stands. */
export interface Place {
  /** Tokens before it, prompt and new ones. */
  readonly length: number;
  readonly promptLength: number;
}

/** A token that was chosen. */
export interface TakenToken {
  readonly token: number;
  /** Its log-probability under the distribution it was drawn from; there where the processor `needsChosen`. */
  readonly chosen?: number;
}

/** A processor at work on one sequence. */
export interface RunningProcessor {
  /** Adds its record to the chain of the next step, or none where it has nothing to do. Changes nothing. */
  write(chain: ChainBatch, place: Place): void;
  /** Notes the token that was chosen. */
  take?(choice: TakenToken): void;
  /** The same for a second sequence with the same past. Absent: there is no state. */
  fork?(): RunningProcessor;
  /** What must be waited for before the next `write`; null or absent: nothing. */
  readonly pending?: Promise<void> | null;
  /** Whether the token may stand next, asked when nothing is pending; absent: any may. */
  allows?(token: number): boolean;
  /** The text that must stand next, asked when nothing is pending; absent: none. */
  forced?(): Promise<string>;
  /** Changes the scores in JavaScript instead of writing a record. */
  hook?(scores: Float32Array, tokens: Int32Array): void | Promise<void>;
}

export interface Processor {
  readonly name: string;
  /** Whether records of it read the tokens so far. */
  readonly readsHistory: boolean;
  /** Whether its state follows how likely the tokens were that are drawn: behind a guess it is known only after the step. */
  readonly needsChosen?: boolean;
  /** @throws SwitchyardError ERR_OPTION where the processor and the sequence do not fit */
  start(context: SequenceContext): RunningProcessor;
  /** Lets go of what the sequences of its text hold together. */
  close?(): void;
}

/** A processor without state. */
export function stateless(
  name: string,
  write: (chain: ChainBatch, place: Place) => void,
  { readsHistory = false }: { readsHistory?: boolean } = {},
): Processor {
  const running = { write };
  return { name, readsHistory, start: () => running };
}

export interface Range {
  /** Least value, or `above` it. */
  readonly from?: number;
  readonly above?: number;
  readonly to?: number;
  readonly below?: number;
  readonly whole?: boolean;
}

/** The value, or ERR_OPTION where it is no number of the range. */
export function inRange(name: string, value: unknown, range: Range): number {
  const { from = -Infinity, above, to = Infinity, below, whole = false } = range;
  const fits =
    typeof value === 'number' &&
    value >= from &&
    value <= to &&
    (above === undefined || value > above) &&
    (below === undefined || value < below) &&
    (!whole || Number.isInteger(value));
  if (fits) return value;
  const bounds = [
    ...(above === undefined ? [] : [`more than ${above}`]),
    ...(from === -Infinity ? [] : [`at least ${from}`]),
    ...(below === undefined ? [] : [`less than ${below}`]),
    ...(to === Infinity ? [] : [`at most ${to}`]),
  ].join(' and ');
  throw new SwitchyardError(
    'ERR_OPTION',
    `[sampler] got ${name} ${typeof value === 'bigint' ? `${value}n` : String(value)}, expected a ${whole ? 'whole ' : ''}number${bounds === '' ? '' : ` of ${bounds}`}`,
  );
}

/** Whole numbers of at least 0, as an array; whether the vocabulary has them is checked when a sequence starts. */
export function tokenList(name: string, ids: unknown): readonly number[] {
  if (!Array.isArray(ids))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[sampler] got ${name} ${String(ids)}, expected an array of token ids`,
    );
  return ids.map((id) => inRange(name, id, { from: 0, to: 2 ** 31 - 1, whole: true }));
}

/** Checks ids against the vocabulary, where it is known. */
export function checkTokens(ids: Iterable<number>, { vocabSize }: SequenceContext): void {
  if (vocabSize === undefined) return;
  for (const id of ids) checkToken(id, vocabSize);
}
