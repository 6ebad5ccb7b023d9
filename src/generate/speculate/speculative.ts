/**
 * Speculative decoding (Leviathan et al. 2023; Chen et al. 2023): a drafter guesses what comes next, one step of the model
 * computes what it would have chosen behind each guess, and the guesses hold as long as they are what it chooses.
 *
 * A choice depends on the logits, on the text before it and on the sampler's random numbers at its place, not on how the step
 * came about. So the text is the one that plain decoding gives, token by token and for every seed: greedy output is identical,
 * and sampled output has the same law because it is the same. A drafter that draws with the same numbers from a similar
 * distribution guesses right nearly as often as rejection sampling accepts (Daliri et al. 2025, arXiv 2408.07978).
 */
import { mismatch } from '../../core/errors.js';
import type { Continuation, GeneratedPart } from '../continuation.js';
import type { Run, Strategy } from '../run.js';
import type { Answer, Ask } from '../steps/lane.js';
import type { Choice, Sampling } from '../steps/sampling.js';

/** What a drafter may look at. */
export interface DraftContext {
  /** Prompt and new tokens. */
  readonly tokens: readonly number[];
  /** At the place behind them; to be forked, not changed, and waited for while it is `pending`. */
  readonly sampling: Sampling;
  /** The state behind each token but the last, after the final norm, where the drafter reads them. */
  readonly hidden?: readonly Float32Array[];
  /** Guesses at most, 1 or more. */
  readonly most: number;
}

/** Guesses for one text. */
export interface Draft {
  /** Tokens that may follow, at most `most`; none is fine. */
  propose(context: DraftContext): readonly number[] | Promise<readonly number[]>;
  close(): Promise<void>;
}

/** What `speculation` of generate takes: see `drafters`. */
export interface Drafter {
  readonly name: string;
  /** Guesses in one step, 1 to 16: a longer one is wasted more often. */
  readonly tokens: number;
  /** Whether it looks at hidden states: then the whole prompt is computed. Default false. */
  readonly readsHidden?: boolean;
  /** For a text that has begun with the prompt. @throws SwitchyardError where it does not fit the model */
  start(run: Run): Draft;
}

const MOST_DRAFTS = 16;

/** @throws SwitchyardError ERR_OPTION */
export function checkDrafter(drafter: Drafter): Drafter {
  if (typeof drafter?.start !== 'function')
    throw mismatch('ERR_OPTION', 'speculation', String(drafter), 'a drafter, like drafters.ngram()');
  const { tokens } = drafter;
  if (!Number.isInteger(tokens) || tokens < 1 || tokens > MOST_DRAFTS)
    throw mismatch('ERR_OPTION', drafter.name, `tokens ${tokens}`, `a whole number from 1 to ${MOST_DRAFTS}`);
  return drafter;
}

export function speculative(drafter: Drafter): Strategy {
  return async function* speculate(run) {
    const { continuation } = run;
    const { sampling, maxTokens } = continuation;
    const { vocabSize } = run.scheduler.engine.model;
    const draft = drafter.start(run);
    const counts = { steps: 0, drafted: 0, accepted: 0 };
    try {
      const lane = run.open({ hidden: drafter.readsHidden === true });
      let guesses: readonly number[] = [];
      let pending: Promise<Answer> | null = run.prompt(lane, { sampling });
      while (pending) {
        const { results }: Answer = await pending;
        const { parts, right } = takeWhileRight(continuation, results, guesses);
        counts.accepted += right;
        continuation.speculation = { ...counts };
        pending = null;
        if (!continuation.finished) {
          lane.truncate(lane.tokens.length - guesses.length + right);
          const last = continuation.tokens.at(-1) as number;
          const most = Math.min(drafter.tokens, maxTokens - continuation.tokens.length - 1);
          const hidden = lane.hidden ? { hidden: lane.hidden } : {};
          const context = { tokens: [...lane.tokens, last], sampling, most, ...hidden };
          const proposed =
            most > 0 ? known(await draft.propose(context), most, vocabSize, continuation.endTokens) : [];
          const { ask, held } = await along(sampling, proposed);
          guesses = held;
          counts.steps++;
          counts.drafted += guesses.length;
          pending = run.feed(lane, [last, ...guesses], ask);
        }
        yield* parts;
      }
    } finally {
      await draft.close();
    }
  };
}

/** Guesses that the model can be asked about, as far as the text could go on. */
function known(
  guesses: readonly number[],
  most: number,
  vocabSize: number,
  endTokens: ReadonlySet<number>,
): readonly number[] {
  const odd = guesses.findIndex((id) => !(Number.isInteger(id) && id >= 0 && id < vocabSize));
  const end = guesses.findIndex((id) => endTokens.has(id));
  return guesses.slice(0, Math.min(most, odd < 0 ? guesses.length : odd, end < 0 ? guesses.length : end + 1));
}

/** Takes choices up to the first that is not what was guessed; that one is right itself. */
function takeWhileRight(
  continuation: Continuation,
  results: readonly Choice[],
  guesses: readonly number[],
): { parts: GeneratedPart[]; right: number } {
  const parts: GeneratedPart[] = [];
  let right = 0;
  for (const choice of results) {
    continuation.take(choice);
    parts.push(continuation.decode());
    if (choice.token !== guesses[right]) break;
    right++;
    if (continuation.finished) break;
  }
  return { parts, right };
}

/** The samplings before each guess and behind the last one; guesses that a grammar does not allow are not held. */
async function along(
  sampling: Sampling,
  guesses: readonly number[],
): Promise<{ ask: Ask; held: readonly number[] }> {
  const earlier: Sampling[] = [];
  let last = sampling;
  for (const token of guesses) {
    if (last.pending) await last.pending;
    if (!last.allows(token)) break;
    earlier.push(last);
    last = last.fork();
    last.guess(token);
  }
  return { ask: { earlier, sampling: last }, held: guesses.slice(0, earlier.length) };
}
