/** Scorers of answers: an answer's own log-probability, verifiers, reward models of outcomes and of steps. */
import { checkOptions, mismatch, SwitchyardError } from '../../core/errors.js';
import type { Tensor } from '../../core/tensor.js';
import type { BatchResult } from '../batch.js';
import { logSumExp } from '../log-sum-exp.js';
import { samplers } from '../samplers/index.js';
import type { Lane, LaneOptions } from '../steps/lane.js';
import { Sampling } from '../steps/sampling.js';

/**
 * Says how good answers are: a number each, larger is better. All answers come at once, so that a model that scores can take
 * them as one batch.
 */
export type Scorer = (answers: readonly BatchResult[]) => readonly number[] | Promise<readonly number[]>;

export interface OwnLogprobOptions {
  /** Divide by the number of tokens: else short answers win. Default true. */
  mean?: boolean;
}

/** How likely an answer was to the model that gave it. */
export function ownLogprob(options: OwnLogprobOptions = {}): Scorer {
  checkOptions('ownLogprob', options, ['mean']);
  const { mean = true } = options;
  return (answers) =>
    answers.map(({ logprobs }) => {
      const sum = logprobs.reduce((a, b) => a + b, 0);
      return mean ? sum / Math.max(1, logprobs.length) : sum;
    });
}

/** Scores texts: a reward model of whole texts, or of beginnings. */
export type TextScorer = (texts: readonly string[]) => readonly number[] | Promise<readonly number[]>;

/** Whole answers by a reward model. @param textOf what the reward model reads: often the question and the answer */
export const outcome =
  (score: TextScorer, textOf: (answer: BatchResult) => string = ({ text }) => text): Scorer =>
  (answers) =>
    score(answers.map(textOf));

export type StepReduction = 'min' | 'product' | 'last' | 'mean';

export interface StepScorerOptions {
  /** Where a step ends: a text or an expression between steps. Default: a line break. */
  split?: string | RegExp;
  /** How the scores of the steps become one. Default 'min': a chain is as good as its weakest step (Lightman et al. 2023). */
  reduce?: StepReduction;
  /** What the reward model reads of an answer's first steps. Default: the steps, joined by line breaks. */
  textOf?: (steps: readonly string[]) => string;
}

const REDUCE: Readonly<Record<StepReduction, (scores: readonly number[]) => number>> = {
  min: (scores) => Math.min(...scores),
  product: (scores) => scores.reduce((a, b) => a * b, 1),
  last: (scores) => scores.at(-1) as number,
  mean: (scores) => scores.reduce((a, b) => a + b, 0) / scores.length,
};

/** Answers by a process reward model: it scores each beginning that ends with a step; one of all answers at once. */
export function steps(score: TextScorer, options: StepScorerOptions = {}): Scorer {
  checkOptions('steps', options, ['split', 'reduce', 'textOf']);
  const { split = '\n', reduce = 'min', textOf = (parts) => parts.join('\n') } = options;
  if (!Object.hasOwn(REDUCE, reduce))
    throw mismatch('ERR_OPTION', 'steps', `reduce '${String(reduce)}'`, Object.keys(REDUCE).join(', '));
  return async (answers) => {
    const beginnings = answers.map(({ text }) => {
      const parts = text.split(split).filter((part) => part.trim() !== '');
      // an answer of nothing is one empty step
      return parts.length === 0 ? [textOf([''])] : parts.map((_, i) => textOf(parts.slice(0, i + 1)));
    });
    const scores = await score(beginnings.flat());
    if (scores.length !== beginnings.flat().length)
      throw mismatch(
        'ERR_OPTION',
        'steps',
        `${scores.length} scores`,
        `${beginnings.flat().length}, one a step`,
      );
    let end = 0;
    return beginnings.map(({ length }) => {
      end += length;
      return REDUCE[reduce](scores.slice(end - length, end));
    });
  };
}

/** A classifier: logits [B, C] of whole texts. */
export interface Classifying {
  readonly tokenizer: { encode(text: string): number[] };
  forward(inputs: { inputIds: number[][]; attentionMask: number[][] }): Promise<{ readonly logits: Tensor }>;
}

/** The probability (by softmax; of a single output by the logistic function) of one class of a classifier. */
export function classProbability(model: Classifying, label: number): TextScorer {
  return async (texts) => {
    const rows = texts.map((text) => model.tokenizer.encode(text));
    const longest = Math.max(...rows.map((row) => row.length));
    const pad = (row: readonly number[], fill: (id: number) => number): number[] =>
      Array.from({ length: longest }, (_, i) => (i < row.length ? fill(row[i] as number) : 0));
    const { logits } = await model.forward({
      inputIds: rows.map((row) => pad(row, (id) => id)),
      attentionMask: rows.map((row) => pad(row, () => 1)),
    });
    const [batch, classes] = logits.shape as [number, number];
    if (logits.shape.length !== 2 || batch !== texts.length || !(label >= 0 && label < classes))
      throw mismatch(
        'ERR_OPTION',
        'classProbability',
        `label ${label} of logits [${logits.shape}]`,
        '[texts, classes]',
      );
    const data = (await logits.data()) as Float32Array;
    return texts.map((_, b) => {
      const row = data.subarray(b * classes, (b + 1) * classes);
      const logit = row[label] as number;
      return classes === 1 ? 1 / (1 + Math.exp(-logit)) : Math.exp(logit - logSumExp(row));
    });
  };
}

/** What a language model must have to judge. */
export interface Judging {
  readonly tokenizer: { encode(text: string, options?: { addSpecialTokens?: boolean }): number[] };
  readonly scheduler: { open(options?: LaneOptions): Lane };
}

/**
 * The probability that a language model says `token` behind the text: a verifier that answers Yes or No.
 * @param token a text that is one token behind the text
 */
export function tokenProbability(model: Judging, token: string): TextScorer {
  const ids = model.tokenizer.encode(token, { addSpecialTokens: false });
  const [id] = ids;
  if (ids.length !== 1 || id === undefined)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[tokenProbability] got '${token}', ${ids.length} tokens of this model, expected one`,
      { hint: 'many vocabularies have words with the space before them: try one' },
    );
  return (texts) =>
    Promise.all(
      texts.map(async (text) => {
        const lane = model.scheduler.open();
        try {
          const sampling = new Sampling(samplers.greedy());
          const { logits } = await lane.feed(model.tokenizer.encode(text), { sampling, logits: true });
          const row = logits as Float32Array;
          return Math.exp((row[id] as number) - logSumExp(row));
        } finally {
          await lane.close();
        }
      }),
    );
}

/** All of them under one name, for `import { scorers }`. */
export const scorers = { ownLogprob, outcome, steps, classProbability, tokenProbability } as const;
