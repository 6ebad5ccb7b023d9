/**
 * Beam search as transformers does it: the likeliest sequences of tokens are kept, and score / length^penalty decides among
 * those that ended (Wu et al. 2016, eq. 14 with the plain power of the length).
 */
import { checkOptions, checkWhole, mismatch, type SwitchyardError } from '../../core/errors.js';
import type { Alternatives, Continuation, GeneratedPart } from '../continuation.js';
import { logSumExp } from '../log-sum-exp.js';
import type { Run, Strategy } from '../run.js';
import { samplers } from '../samplers/index.js';
import type { Answer, Ask, Lane } from '../steps/lane.js';
import { Sampling } from '../steps/sampling.js';
import { alternativesTo, type Candidate, likeliest } from './likeliest.js';

export interface BeamOptions {
  /** Sequences kept at each step, 1 to 64. */
  beams: number;
  /** Power of the length by which a sum of log-probabilities is divided; above 0 favours long texts. Default 1. */
  lengthPenalty?: number;
  /**
   * When the search ends: true: as soon as `beams` sequences have ended; 'never': when no open one could become better,
   * however long; false (default): when the best open one, at its present length, is not better than the worst ended one.
   */
  earlyStopping?: boolean | 'never';
  /** Sequences returned, at most `beams`. Default 1. */
  returned?: number;
  /** Above 1: a diverse search (diverse-beam.ts) in as many groups, of which `beams` is a multiple. Default 1. */
  groups?: number;
  /** What a token loses for each beam of the groups before that chose it. Default 1 where there are groups. */
  diversityPenalty?: number;
}

export type BeamSettings = Required<BeamOptions>;
const OPTIONS = ['beams', 'lengthPenalty', 'earlyStopping', 'returned', 'groups', 'diversityPenalty'];
const MOST_BEAMS = 64;

/** @throws SwitchyardError ERR_OPTION */
export function beamSettings(options: number | BeamOptions): BeamSettings {
  const given = typeof options === 'number' ? { beams: options } : options;
  checkOptions('beams', given, OPTIONS);
  const { beams, lengthPenalty = 1, earlyStopping = false, returned = 1, groups = 1 } = given;
  const { diversityPenalty = groups > 1 ? 1 : 0 } = given;
  checkWhole('beams', 'beams', beams, 1);
  if (beams > MOST_BEAMS) throw mismatch('ERR_OPTION', 'beams', `beams ${beams}`, `at most ${MOST_BEAMS}`);
  checkWhole('beams', 'returned', returned, 1);
  if (returned > beams)
    throw mismatch('ERR_OPTION', 'beams', `returned ${returned}`, `at most ${beams} beams`);
  if (!Number.isFinite(lengthPenalty))
    throw mismatch('ERR_OPTION', 'beams', `lengthPenalty ${String(lengthPenalty)}`, 'a number');
  if (typeof earlyStopping !== 'boolean' && earlyStopping !== 'never')
    throw mismatch('ERR_OPTION', 'beams', `earlyStopping ${String(earlyStopping)}`, "true, false or 'never'");
  checkWhole('beams', 'groups', groups, 1);
  if (beams % groups !== 0)
    throw mismatch(
      'ERR_OPTION',
      'beams',
      `${groups} groups of ${beams} beams`,
      'a number that divides the beams',
    );
  if (!(diversityPenalty >= 0 && Number.isFinite(diversityPenalty)) || (groups === 1 && diversityPenalty > 0))
    throw mismatch(
      'ERR_OPTION',
      'beams',
      `diversityPenalty ${String(diversityPenalty)} for ${groups} group(s)`,
      'a number ≥ 0, and groups',
    );
  return { beams, lengthPenalty, earlyStopping, returned, groups, diversityPenalty };
}

interface Path {
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
  /** Of each token, if they were asked for. */
  readonly alternatives: readonly Alternatives[];
  /** What is compared: log-probabilities, less penalties. */
  readonly sum: number;
}

/** An open path: it goes on from that place in the row before. */
interface Open extends Path {
  readonly parent: number;
}

export interface Ended extends Path {
  readonly score: number;
}

/** What may follow an open path, likeliest first: `logprob` is what counts, `raw` what the model says. */
export interface Step extends Candidate {
  readonly raw: number;
  /** What else might have stood in its place, where that is asked for. */
  alternatives?(): Alternatives;
}

export interface BeamRules extends Pick<BeamSettings, 'beams' | 'lengthPenalty' | 'earlyStopping'> {
  readonly maxTokens: number;
  readonly endTokens: ReadonlySet<number>;
  /** Whether the last of the tokens completes a stop string. Default: there are none. */
  stopped?(tokens: readonly number[]): boolean;
}

/** The paths of one search, without a model. */
export class BeamState {
  open: readonly Open[] = [{ tokens: [], logprobs: [], alternatives: [], sum: 0, parent: 0 }];
  /** Best first, at most `beams`. */
  ended: readonly Ended[] = [];
  done = false;
  #improvable = true;

  constructor(readonly rules: BeamRules) {}

  /** Candidates looked at in a step: enough that `beams` of them do not end. */
  get wanted(): number {
    const { beams, endTokens } = this.rules;
    return Math.max(2, 1 + endTokens.size) * beams;
  }

  /** Goes one token further. @param steps for each open path, `wanted` of them or the whole vocabulary */
  advance(steps: readonly (readonly Step[])[]): void {
    const { beams, lengthPenalty, earlyStopping, maxTokens } = this.rules;
    const length = (this.open[0] as Open).tokens.length + 1;
    const candidates = this.open
      .flatMap(({ sum }, parent) =>
        (steps[parent] ?? []).map((step) => ({ parent, step, sum: sum + step.logprob })),
      )
      .sort((a, b) => b.sum - a.sum)
      .slice(0, this.wanted)
      .map((candidate) => ({ ...candidate, ends: this.#ends(candidate, length) }));
    const pathOf = ({ parent, step, sum }: (typeof candidates)[number]): Open => {
      const before = this.open[parent] as Open;
      return {
        parent,
        sum,
        tokens: [...before.tokens, step.token],
        logprobs: [...before.logprobs, step.raw],
        alternatives: step.alternatives ? [...before.alternatives, step.alternatives()] : [],
      };
    };
    const full = this.ended.length === beams;
    // the candidates behind the first `beams` are there to keep enough paths open, not to win
    if (this.#improvable && !(full && earlyStopping === true)) {
      const fresh = candidates.slice(0, beams).filter((c) => c.ends);
      this.ended = [
        ...this.ended,
        ...fresh.map((c) => ({ ...pathOf(c), score: c.sum / length ** lengthPenalty })),
      ]
        .sort((a, b) => b.score - a.score)
        .slice(0, beams);
    }
    const next = candidates.filter((c) => !c.ends).slice(0, beams);
    this.open = next.map(pathOf);
    const allEnded = this.ended.length === beams;
    if (allEnded && this.open.length > 0) {
      const reach = earlyStopping === 'never' && lengthPenalty > 0 ? maxTokens : length;
      const best = (this.open[0] as Open).sum / reach ** lengthPenalty;
      this.#improvable &&= best > (this.ended[beams - 1] as Ended).score;
    }
    this.done = this.open.length === 0 || !this.#improvable || (allEnded && earlyStopping === true);
  }

  #ends({ parent, step }: { parent: number; step: Step }, length: number): boolean {
    const { maxTokens, endTokens, stopped } = this.rules;
    if (length >= maxTokens || endTokens.has(step.token)) return true;
    return stopped?.([...(this.open[parent] as Open).tokens, step.token]) ?? false;
  }
}

/** What the model says behind a path. */
interface Behind {
  /** [V] */
  readonly logits: Float32Array;
  /** [V]: log-probabilities as penalties, bans and forced tokens leave them; null: there are none. */
  readonly scores: Float32Array | null;
}

/** Feeds the open paths of searches that share a prompt, each in a lane; all of them in one step. */
export class BeamLanes {
  #paths: { readonly lane: Lane; readonly edits: Sampling | null }[] = [];

  constructor(readonly run: Run) {}

  async start(): Promise<Behind> {
    const path = { lane: this.run.open(), edits: this.run.continuation.edits() };
    this.#paths = [path];
    return behind(await this.run.prompt(path.lane, askOf(path.edits)));
  }

  /** @param paths their places among the paths before, and their last tokens */
  async next(paths: readonly { readonly parent: number; readonly token: number }[]): Promise<Behind[]> {
    const old = this.#paths;
    const heirs = new Set<number>();
    this.#paths = paths.map(({ parent, token }) => {
      const { lane, edits: before } = old[parent] as (typeof old)[number];
      const edits = before?.fork() ?? null;
      edits?.take({ token });
      if (heirs.has(parent)) return { lane: this.run.fork(lane), edits };
      heirs.add(parent);
      return { lane, edits };
    });
    await Promise.all(old.filter((_, i) => !heirs.has(i)).map(({ lane }) => this.run.close(lane)));
    const answers = await Promise.all(
      this.#paths.map(({ lane, edits }, i) => {
        const { token } = paths[i] as (typeof paths)[number];
        return this.run.feed(lane, [token], askOf(edits));
      }),
    );
    return answers.map(behind);
  }
}

/** Logits, and log-probabilities as the options leave them. */
export function askOf(edits: Sampling | null): Ask {
  return { sampling: edits ?? NO_EDITS, logits: true, scores: edits !== null };
}

const NO_EDITS = new Sampling(samplers.greedy());

export const nothingLeft = (where: string): SwitchyardError =>
  mismatch('ERR_OPTION', where, 'no token that is allowed', 'at least one in each step', {
    hint: 'bans, forced tokens and a grammar together leave nothing: loosen one of them',
  });

/** @throws what a hook has thrown */
export function behind({ logits, scores, results }: Answer): Behind {
  const error = results.at(-1)?.error;
  if (error !== undefined) throw error;
  return { logits: logits as Float32Array, scores };
}

export interface StepsOptions {
  /** Subtracted from the log-probabilities of these tokens before they are compared. */
  penalties?: ReadonlyMap<number, number>;
  /** So many of the likeliest tokens in the place of each, and its rank. Default: neither. */
  top?: number | undefined;
}

/** The likeliest continuations, penalties subtracted. */
export function stepsOf(
  { logits, scores }: Behind,
  count: number,
  { penalties, top }: StepsOptions = {},
): Step[] {
  const norm = logSumExp(logits);
  const candidates = scores
    ? likeliest(scores, count, penalties, 0)
    : likeliest(logits, count, penalties, norm);
  const others = (token: number) =>
    top === undefined ? {} : { alternatives: () => alternativesTo(logits, token, top) };
  return candidates.map((c) => ({ ...c, raw: (logits[c.token] as number) - norm, ...others(c.token) }));
}

/** When paths of a continuation end. */
export const rulesOf = (continuation: Continuation) => ({
  maxTokens: continuation.maxTokens,
  endTokens: continuation.endTokens,
  stopped: (tokens: readonly number[]) => continuation.stopped(tokens),
});

/** Searches with `beams` paths; the best one is handed out when the search has ended. */
export function beamSearch(settings: BeamSettings): Strategy {
  return async function* search(run) {
    const { continuation } = run;
    const { top } = continuation;
    const state = new BeamState({ ...settings, ...rulesOf(continuation) });
    const lanes = new BeamLanes(run);
    let rows = [await lanes.start()];
    for (;;) {
      state.advance(rows.map((row) => stepsOf(row, state.wanted, { top })));
      if (state.done) break;
      rows = await lanes.next(
        state.open.map(({ parent, tokens }) => ({ parent, token: tokens.at(-1) as number })),
      );
    }
    yield* handOut(continuation, state.ended.slice(0, settings.returned));
  };
}

/** Gives out the best path as if it had been generated token by token, and all of them with their texts. */
export function* handOut(continuation: Continuation, paths: readonly Ended[]): Generator<GeneratedPart> {
  continuation.hypotheses = paths.map(({ tokens, logprobs, score, alternatives }) => ({
    ...continuation.read(tokens),
    tokens,
    logprobs,
    score,
    ...(continuation.top === undefined ? {} : { alternatives }),
  }));
  const [best] = paths;
  if (!best) throw nothingLeft('beams');
  for (const [i, token] of best.tokens.entries()) {
    const logprob = best.logprobs[i] as number;
    continuation.take({ token, logprob, chosen: logprob, ...best.alternatives[i] });
    yield continuation.decode();
  }
}
