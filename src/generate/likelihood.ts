/** How likely a model finds given tokens: of a whole text, and of candidates behind one prompt, which is computed once. */
import { checkOptions, mismatch, SwitchyardError } from '../core/errors.js';
import { samplers } from './samplers/index.js';
import { inRange } from './samplers/processor.js';
import type { Answer, Lane } from './steps/lane.js';
import { Sampling, type TokenLogprob } from './steps/sampling.js';
import type { Scheduler } from './steps/scheduler.js';

export interface LikelihoodOptions {
  /** So many of the likeliest tokens in the place of each token, 0 to 1024. Default 0. */
  top?: number;
  signal?: AbortSignal;
}

/** A token as the model saw it behind all tokens before it. */
export interface ScoredToken extends TokenLogprob {
  /** 1: no other token is likelier; of tokens that are equally likely each has the same rank. */
  readonly rank: number;
  readonly top: readonly TokenLogprob[];
}

export interface CandidateScore {
  /** The candidate's tokens; the first one may hold an end of the prompt, where the tokenizer joins them. */
  readonly tokens: readonly ScoredToken[];
  /** Sum of their log-probabilities, and that divided by their number. */
  readonly logprob: number;
  readonly meanLogprob: number;
  /** Greedy decoding would have given it: every token has rank 1. */
  readonly greedy: boolean;
}

export interface LikelihoodHost {
  readonly scheduler: Scheduler;
  readonly contextLength: number;
}

/** Tokens whose logits are computed in one step: 64 rows of a vocabulary of 150,000 take 38 MB. */
const PIECE = 64;
const MOST_TOP = 1024;

function topOf(where: string, options: LikelihoodOptions, { scheduler }: LikelihoodHost): number {
  checkOptions(where, options, ['top', 'signal']);
  const to = Math.min(MOST_TOP, scheduler.engine.model.vocabSize);
  return inRange('top', options.top ?? 0, { from: 0, to, whole: true });
}

/**
 * Every token of a text behind those before it; the first one has nothing before it and is left out.
 * @throws SwitchyardError ERR_OPTION, ERR_CONTEXT_LENGTH or ERR_ABORTED
 */
export async function logprobsOf(
  host: LikelihoodHost,
  tokens: readonly number[],
  options: LikelihoodOptions = {},
): Promise<ScoredToken[]> {
  const top = topOf('logprobs', options, host);
  checkLength('logprobs', tokens, host);
  return withLanes(options.signal, async (keep) => {
    const lane = keep(host.scheduler.open({ salt: null }));
    return scored(lane, tokens[0] as number, tokens.slice(1), top);
  });
}

/**
 * Candidates behind one prompt, whose tokens are computed once.
 * @param candidates whole texts as tokens, prompt included
 */
export async function scoresOf(
  host: LikelihoodHost,
  prompt: readonly number[],
  candidates: readonly (readonly number[])[],
  options: LikelihoodOptions = {},
): Promise<CandidateScore[]> {
  const top = topOf('score', options, host);
  if (candidates.length === 0) throw mismatch('ERR_OPTION', 'score', 'no candidates', 'at least one');
  // What all of them begin with; one token at least is before what is scored.
  const starts = candidates.map((tokens) => {
    checkLength('score', tokens, host);
    let same = 0;
    while (same < prompt.length && prompt[same] === tokens[same]) same++;
    const start = Math.min(same, tokens.length - 1);
    if (start === 0)
      throw mismatch('ERR_OPTION', 'score', 'a candidate that does not begin as the prompt', 'one that does');
    return start;
  });
  const common = Math.min(...starts);
  return withLanes(options.signal, async (keep) => {
    const origin = keep(host.scheduler.open());
    if (common > 1) await origin.feed(prompt.slice(0, common - 1), { sampling: null });
    const lanes = candidates.map(() => keep(origin.fork()));
    return Promise.all(
      candidates.map(async (tokens, i) => {
        const lane = lanes[i] as Lane;
        const start = starts[i] as number;
        const before = tokens.slice(common - 1, start - 1);
        if (before.length > 0) await lane.feed(before, { sampling: null });
        const each = await scored(lane, tokens[start - 1] as number, tokens.slice(start), top);
        const logprob = each.reduce((sum, token) => sum + token.logprob, 0);
        return {
          tokens: each,
          logprob,
          meanLogprob: logprob / each.length,
          greedy: each.every(({ rank }) => rank === 1),
        };
      }),
    );
  });
}

/** Feeds `first` and all but the last of `tokens`, and tells how likely each of `tokens` was. @param answered told of every answer */
export async function scored(
  lane: Lane,
  first: number,
  tokens: readonly number[],
  top: number,
  answered: (answer: Answer) => void = () => undefined,
): Promise<ScoredToken[]> {
  const all: ScoredToken[] = [];
  let before = first;
  for (let at = 0; at < tokens.length; at += PIECE) {
    const piece = tokens.slice(at, at + PIECE);
    // The token is given: a step tells its log-probability all the same.
    const given = piece.map((token) => new Sampling(samplers.forcedTokens({ 0: token }), [], { seed: 0 }));
    const answer = await lane.feed([before, ...piece.slice(0, -1)], {
      earlier: given.slice(0, -1),
      sampling: given.at(-1) as Sampling,
      top,
    });
    answered(answer);
    for (const { token, logprob, rank, top: likely } of answer.results) {
      if (token < 0)
        throw new SwitchyardError(
          'ERR_NATIVE',
          '[logprobs] got logits without a finite largest value, expected numbers',
        );
      all.push({ token, logprob, rank: rank as number, top: likely ?? [] });
    }
    before = piece.at(-1) as number;
  }
  return all;
}

async function withLanes<T>(
  signal: AbortSignal | undefined,
  work: (keep: (lane: Lane) => Lane) => Promise<T>,
): Promise<T> {
  const lanes: Lane[] = [];
  const closeAll = (): Promise<unknown> => Promise.all(lanes.map((lane) => lane.close()));
  const onAbort = (): void => void closeAll();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    return await work((lane) => {
      lanes.push(lane);
      return lane;
    });
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new SwitchyardError('ERR_ABORTED', '[score] got an abort, expected to finish', {
      cause: signal.reason,
    });
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await closeAll();
  }
}

function checkLength(where: string, tokens: readonly number[], { contextLength }: LikelihoodHost): void {
  if (tokens.length < 2)
    throw mismatch('ERR_OPTION', where, `a text of ${tokens.length} tokens`, 'at least 2');
  if (tokens.length > contextLength)
    throw mismatch(
      'ERR_CONTEXT_LENGTH',
      where,
      `a text of ${tokens.length} tokens`,
      `at most ${contextLength}`,
      {
        hint: 'load the model with a larger contextLength',
      },
    );
}
