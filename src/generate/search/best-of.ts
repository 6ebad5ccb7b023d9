/** Best of N: several answers are drawn, a scorer says which one stands (Stiennon et al. 2020, section 3; Cobbe et al. 2021). */
import { checkOptions, mismatch } from '../../core/errors.js';
import type { BatchResult } from '../batch.js';
import { MANY_OPTIONS, type ManyOptions } from './many.js';
import { ownLogprob, type Scorer } from './scorers.js';

/** What search needs of a model. */
export interface Answering {
  generateMany(prompt: string | readonly number[], options: ManyOptions): Promise<BatchResult[]>;
}

export interface ScoredAnswer extends BatchResult {
  readonly score: number;
}

export interface BestOfOptions extends ManyOptions {
  /** Default: the mean log-probability of the answer's own tokens. */
  scorer?: Scorer;
}

export interface BestOfResult extends ScoredAnswer {
  /** All answers, best first; among equals the one drawn first. */
  readonly answers: readonly ScoredAnswer[];
}

/** @throws SwitchyardError ERR_OPTION for options that cannot be run, or a scorer that does not give a number for each answer */
export async function bestOf(
  model: Answering,
  prompt: string | readonly number[],
  options: BestOfOptions,
): Promise<BestOfResult> {
  checkOptions('bestOf', options, [...MANY_OPTIONS, 'scorer']);
  const { scorer = ownLogprob(), ...many } = options;
  const drawn = await model.generateMany(prompt, many);
  const answers = (await scored('bestOf', drawn, scorer)).sort((a, b) => b.score - a.score);
  return { ...(answers[0] as ScoredAnswer), answers };
}

/** The answers with their scores, in their order. */
export async function scored(
  where: string,
  answers: readonly BatchResult[],
  scorer: Scorer,
): Promise<ScoredAnswer[]> {
  const scores = await scorer(answers);
  if (scores.length !== answers.length || !scores.every((s) => typeof s === 'number' && !Number.isNaN(s)))
    throw mismatch(
      'ERR_OPTION',
      where,
      `scores [${scores.join(', ')}] for ${answers.length} answers`,
      'a number each',
    );
  return answers.map((answer, i) => ({ ...answer, score: scores[i] as number }));
}
