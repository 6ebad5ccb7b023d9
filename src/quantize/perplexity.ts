/** How well a model predicts a text, alone and beside the model that it was made from. */
import { checkOptions, checkWhole, SwitchyardError } from '../core/errors.js';
import { exp, mul, neg, sub } from '../core/ops/elementwise.js';
import { takeAlong, takeRows } from '../core/ops/indexing.js';
import { logSoftmax } from '../core/ops/norm.js';
import { argmax, sum } from '../core/ops/reduce.js';
import { reshape } from '../core/ops/shape.js';
import { compileOn } from '../core/program/compile.js';
import { type Tensor, tensor } from '../core/tensor.js';
import type { LanguageModel } from '../generate/handles/language-model.js';
import { checkToken } from '../models/decoder/ragged.js';
import { Scorer } from './scorer.js';

export interface ScoreOptions {
  /** Tokens of one window; each starts without a past, and its first token is not scored. Default 512. */
  window?: number;
  signal?: AbortSignal;
  onProgress?: (progress: { tokens: number; total: number }) => void;
}

export interface Score {
  /** exp of the mean negative log-likelihood. */
  readonly perplexity: number;
  /** Mean negative log-likelihood, in nats. */
  readonly loss: number;
  /** Tokens that were scored. */
  readonly tokens: number;
}

export interface Comparison {
  readonly reference: Score;
  readonly model: Score;
  /** Perplexity of the model over the reference's, minus 1. */
  readonly increase: number;
  /** KL(reference ‖ model) of a token's distribution, in nats. */
  readonly kl: { readonly mean: number; readonly p99: number; readonly max: number };
  /** Share of tokens whose likeliest next token is the same. */
  readonly sameTop: number;
}

const DEFAULT_WINDOW = 512;
/** Windows that share steps: each gives 64 tokens to one (likelihood.ts), and a step of a sparse model wants a few hundred. */
const TOGETHER = 4;
/** Rows of logits at a time: 32 MB each way for a vocabulary of 128,000. */
const CHUNK = 64;

/**
 * As `model.logprobs` sees the windows, with the cache that the model decodes with.
 * @throws SwitchyardError ERR_OPTION for a text of fewer than two tokens; ERR_CONTEXT_LENGTH for windows beyond the context
 */
export async function perplexity(
  model: LanguageModel,
  text: string | readonly number[],
  options: ScoreOptions = {},
): Promise<Score> {
  const { window, signal, onProgress } = checkedOptions(options);
  const windows = windowsOf(idsOf(model, text), window);
  const total = windows.reduce((n, w) => n + w.length - 1, 0);
  const losses = windows.map((): number[] => []);
  const stop = new AbortController();
  const either = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
  let tokens = 0;
  const queue = windows.entries();
  const readers = Array.from({ length: TOGETHER }, async () => {
    for (const [i, ids] of queue) {
      const scored = await model.logprobs(ids, { signal: either });
      losses[i] = scored.map(({ logprob }) => -logprob);
      tokens += scored.length;
      onProgress?.({ tokens, total });
    }
  });
  try {
    await Promise.all(readers);
  } finally {
    stop.abort();
    await Promise.allSettled(readers);
  }
  return scoreOf(losses.flat());
}

function checkedOptions(options: ScoreOptions): ScoreOptions & { window: number } {
  checkOptions('perplexity', options, ['window', 'signal', 'onProgress']);
  const { window = DEFAULT_WINDOW } = options;
  checkWhole('perplexity', 'window', window, 2);
  return { ...options, window };
}

/**
 * Both models over the same windows; the text is encoded by the reference's tokenizer. Whole distributions are compared, and keys and
 * values are kept in f32, whatever the models' caches keep.
 */
export async function compareModels(
  reference: LanguageModel,
  model: LanguageModel,
  text: string | readonly number[],
  options: ScoreOptions = {},
): Promise<Comparison> {
  if (model.config.vocabSize !== reference.config.vocabSize)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[compare] got vocabularies of ${reference.config.vocabSize} and ${model.config.vocabSize}, expected one`,
    );
  const losses: [number[], number[]] = [[], []];
  const divergences: number[] = [];
  let same = 0;
  await overWindows([reference, model], text, options, async (rows) => {
    losses[0].push(...(rows.losses[0] as Float32Array));
    losses[1].push(...(rows.losses[1] as Float32Array));
    divergences.push(...rows.divergence);
    const [a, b] = rows.top as [Int32Array, Int32Array];
    for (const [i, id] of a.entries()) if (id === b[i]) same++;
  });
  const [ours, theirs] = [scoreOf(losses[1]), scoreOf(losses[0])];
  const sorted = Float64Array.from(divergences).sort();
  return {
    reference: theirs,
    model: ours,
    increase: ours.perplexity / theirs.perplexity - 1,
    kl: {
      mean: mean(divergences),
      p99: sorted[Math.min(sorted.length - 1, Math.floor(0.99 * sorted.length))] as number,
      max: sorted.at(-1) as number,
    },
    sameTop: same / divergences.length,
  };
}

/** In double precision: 20,000 terms in single precision would cost the digits that formats differ by. */
const mean = (values: readonly number[]): number => values.reduce((total, v) => total + v, 0) / values.length;

function scoreOf(losses: readonly number[]): Score {
  const loss = mean(losses);
  return { perplexity: Math.exp(loss), loss, tokens: losses.length };
}

interface Rows {
  /** Per model. */
  readonly losses: readonly Float32Array[];
  readonly divergence: Float32Array;
  readonly top: readonly Int32Array[];
}

/** Windows of both models, whose logits stay native. */
async function overWindows(
  models: readonly [LanguageModel, LanguageModel],
  text: string | readonly number[],
  options: ScoreOptions,
  take: (rows: Rows) => Promise<void>,
): Promise<void> {
  const { window, signal, onProgress } = checkedOptions(options);
  const [first] = models;
  const windows = windowsOf(idsOf(first, text), window);
  const total = windows.reduce((n, w) => n + w.length - 1, 0);
  const scorers = models.map((model) => new Scorer(model));
  const score = compileOn(() => first.device, scoring(models), { device: first.device });
  let tokens = 0;
  try {
    for (const part of windows) {
      const hidden: Tensor[] = [];
      for (const scorer of scorers) {
        signal?.throwIfAborted();
        hidden.push((await scorer.run(part)).hidden);
      }
      for (let at = 0; at < part.length - 1; at += CHUNK) {
        signal?.throwIfAborted();
        const count = Math.min(CHUNK, part.length - 1 - at);
        const rows = tensor(Int32Array.from({ length: count }, (_, i) => at + i));
        const targets = tensor(Int32Array.from(part.slice(at + 1, at + 1 + count)));
        const out = await score(hidden, rows, targets);
        await take({
          losses: await Promise.all(out.losses.map((t) => t.data() as Promise<Float32Array>)),
          divergence: (await out.divergence.data()) as Float32Array,
          top: await Promise.all(out.top.map((t) => t.data() as Promise<Int32Array>)),
        });
        tokens += count;
        onProgress?.({ tokens, total });
      }
    }
  } finally {
    score.dispose();
    for (const scorer of scorers) scorer.dispose();
  }
}

/** Heads and what is asked of their logits, of one chunk of rows. */
function scoring(models: readonly LanguageModel[]) {
  return (hidden: readonly Tensor[], rows: Tensor, targets: Tensor) => {
    const count = rows.shape[0] as number;
    const logProbabilities = models.map(({ decoder, dtype }, i) =>
      logSoftmax(decoder.logits(takeRows(hidden[i] as Tensor, rows), dtype)),
    ); // [C, V]
    const losses = logProbabilities.map((lp) => {
      const chosen = takeAlong(lp, reshape(targets, [count, 1]));
      return neg(reshape(chosen, [count]));
    });
    const [p, q] = logProbabilities as [Tensor, Tensor];
    return {
      losses,
      divergence: sum(mul(exp(p), sub(p, q)), -1),
      top: logProbabilities.map((lp) => argmax(lp)),
    };
  };
}

/** Token ids of a text, checked. */
export function idsOf(model: LanguageModel, text: string | readonly number[]): number[] {
  const ids = typeof text === 'string' ? model.tokenizer.encode(text) : [...text];
  for (const id of ids) checkToken(id, model.config.vocabSize);
  if (ids.length >= 2) return ids;
  throw new SwitchyardError(
    'ERR_OPTION',
    `[perplexity] got a text of ${ids.length} tokens, expected at least 2`,
  );
}

/** Consecutive windows; a last one of a single token has nothing to predict and is left out. */
export function windowsOf(ids: readonly number[], window: number): number[][] {
  const windows: number[][] = [];
  for (let at = 0; at < ids.length - 1; at += window) windows.push(ids.slice(at, at + window));
  return windows;
}
