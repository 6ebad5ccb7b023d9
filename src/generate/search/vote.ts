/** Self-consistency (Wang et al. 2023): several chains of thought are drawn, and the answer that most of them reach stands. */
import { checkOptions, mismatch } from '../../core/errors.js';
import type { BatchResult } from '../batch.js';
import { type Answering, scored } from './best-of.js';
import { MANY_OPTIONS, type ManyOptions } from './many.js';
import type { Scorer } from './scorers.js';

/** Finds the answer in a text; null: there is none, and the text has no vote. */
export type Extract = RegExp | ((text: string) => string | null | undefined);

export interface VoteOptions extends ManyOptions {
  /** An expression (its last match counts; of it the first group, if it has one), or a function. */
  extract: Extract;
  /** What a vote weighs, e.g. the score of a verifier; negative ones count nothing. Default: 1 each. */
  weight?: Scorer;
  /** Answers that become equal are one. Default: without spaces around. */
  normalize?: (answer: string) => string;
}

export interface Votes {
  readonly answer: string;
  /** Sum of the weights. */
  readonly weight: number;
  /** Part of all weight, 0 to 1. */
  readonly share: number;
  /** The texts that reach it. */
  readonly texts: readonly BatchResult[];
}

export interface VoteResult {
  /** With the most weight; among equals the one reached first. null: no text had an answer. */
  readonly answer: string | null;
  /** Most weight first. */
  readonly votes: readonly Votes[];
  /** Texts without an answer. */
  readonly abstained: readonly BatchResult[];
}

/** @throws SwitchyardError ERR_OPTION */
export async function vote(
  model: Answering,
  prompt: string | readonly number[],
  options: VoteOptions,
): Promise<VoteResult> {
  checkOptions('vote', options, [...MANY_OPTIONS, 'extract', 'weight', 'normalize']);
  const { extract, weight, normalize, ...many } = options;
  const found = extractor(extract);
  const texts = await model.generateMany(prompt, many);
  const weights = weight ? (await scored('vote', texts, weight)).map(({ score }) => score) : undefined;
  return countVotes(texts, found, { normalize, weights });
}

/** Counts votes of texts that are there already. */
export function countVotes(
  texts: readonly BatchResult[],
  extract: Extract,
  {
    weights,
    normalize = (answer) => answer.trim(),
  }: { weights?: readonly number[] | undefined; normalize?: VoteOptions['normalize'] } = {},
): VoteResult {
  const found = extractor(extract);
  const byAnswer = new Map<string, { weight: number; texts: BatchResult[] }>();
  const abstained: BatchResult[] = [];
  let total = 0;
  for (const [i, text] of texts.entries()) {
    const answer = found(text.text);
    if (answer === null || answer === undefined) {
      abstained.push(text);
      continue;
    }
    const weight = Math.max(0, weights?.[i] ?? 1);
    const key = normalize(answer);
    const entry = byAnswer.get(key) ?? { weight: 0, texts: [] };
    entry.weight += weight;
    entry.texts.push(text);
    byAnswer.set(key, entry);
    total += weight;
  }
  const votes = [...byAnswer]
    .map(([answer, entry]) => ({ answer, share: total > 0 ? entry.weight / total : 0, ...entry }))
    .sort((a, b) => b.weight - a.weight);
  return { answer: votes[0]?.answer ?? null, votes, abstained };
}

function extractor(extract: Extract): (text: string) => string | null | undefined {
  if (typeof extract === 'function') return extract;
  if (!(extract instanceof RegExp))
    throw mismatch('ERR_OPTION', 'vote', `extract ${String(extract)}`, 'an expression or a function');
  const all = new RegExp(extract, extract.flags.includes('g') ? extract.flags : `${extract.flags}g`);
  return (text) => {
    const last = [...text.matchAll(all)].at(-1);
    return last ? (last[1] ?? last[0]) : null;
  };
}
