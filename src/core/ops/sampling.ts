/** Choosing the next token natively, so that a decode step hands back one integer, and what tokens are worth. */
import {
  apply,
  apply1,
  checkDType,
  checkInt,
  checkRank,
  checkSize,
  defineOp,
  type OpInput,
  tensorInput,
} from '../op.js';
import type { Tensor } from '../tensor.js';

/** i32 words of a row: chain offset, chain words, history offset, history length, seed, step; offsets into the data. */
export const CHAIN_ROW_WORDS = 6;

function checkChains(where: string, inputs: readonly OpInput[]): { rows: number; vocabulary: number } {
  const logits = tensorInput(where, 'logits', inputs[0]);
  const rows = tensorInput(where, 'rows', inputs[1]);
  const data = tensorInput(where, 'data', inputs[2]);
  checkDType(where, 'logits', logits.dtype, 'f32');
  checkDType(where, 'rows', rows.dtype, 'i32');
  checkDType(where, 'data', data.dtype, 'i32');
  checkRank(where, 'logits', logits.shape, 2);
  checkRank(where, 'rows', rows.shape, 2);
  checkRank(where, 'data', data.shape, 1);
  const [count, vocabulary] = logits.shape as [number, number];
  checkSize(where, 'rows of length', rows.shape[0] as number, count);
  checkSize(where, 'words a row', rows.shape[1] as number, CHAIN_ROW_WORDS);
  checkInt(where, 'a vocabulary of', vocabulary, 1, 2 ** 31 - 65);
  return { rows: count, vocabulary };
}

const sampleOp = defineOp({
  name: 'sample',
  attrs: {},
  infer(inputs) {
    const { rows } = checkChains('sample', inputs);
    return [
      { dtype: 'i32', shape: [rows] },
      { dtype: 'f32', shape: [rows] },
      { dtype: 'f32', shape: [rows] },
    ];
  },
  gradient: 'nondifferentiable',
  lower: () => ({ kernel: 'sample', attrs: [] }),
});

const processLogitsOp = defineOp({
  name: 'process_logits',
  attrs: {},
  infer(inputs) {
    const { rows, vocabulary } = checkChains('process_logits', inputs);
    return [{ dtype: 'f32', shape: [rows, vocabulary] }];
  },
  gradient: 'nondifferentiable',
  lower: () => ({ kernel: 'process_logits', attrs: [] }),
});

export interface ChainInputs {
  /** [S, V] */
  logits: Tensor;
  /** i32 [S, 6]: where each row's chain and history lie in `data`, its seed and step. */
  rows: Tensor;
  /** i32 [words]: chains and histories, as `ChainBatch` (src/generate/samplers/chain-batch.ts) writes them. */
  data: Tensor;
}

/**
 * One token per row, drawn from what the row's chain of processors leaves of its logits. The draw depends on logits, chain,
 * history, seed and step of the row, on nothing beside it.
 * @returns tokens i32 [S] (-1: the chain left none; -2: the logits hold NaN or no finite largest), their log-probabilities [S]
 * under the raw logits, and those [S] under the distribution they were drawn from
 */
export function sample({ logits, rows, data }: ChainInputs): {
  tokens: Tensor;
  logprobs: Tensor;
  chosen: Tensor;
} {
  const [tokens, logprobs, chosen] = apply(sampleOp, [logits, rows, data]) as [Tensor, Tensor, Tensor];
  return { tokens, logprobs, chosen };
}

/**
 * What each row's chain makes of its logits: [S, V], -inf for tokens that it removes. Softmax of it is the distribution that
 * `sample` draws from.
 */
export const processLogits = ({ logits, rows, data }: ChainInputs): Tensor =>
  apply1(processLogitsOp, [logits, rows, data]);

const tokenLogprobsOp = defineOp({
  name: 'token_logprobs',
  attrs: { n: 'int' },
  infer(inputs, { n }) {
    const logits = tensorInput('token_logprobs', 'logits', inputs[0]);
    const targets = tensorInput('token_logprobs', 'targets', inputs[1]);
    checkDType('token_logprobs', 'logits', logits.dtype, 'f32');
    checkDType('token_logprobs', 'targets', targets.dtype, 'i32');
    checkRank('token_logprobs', 'logits', logits.shape, 2);
    checkRank('token_logprobs', 'targets', targets.shape, 1);
    const [rows, vocabulary] = logits.shape as [number, number];
    checkSize('token_logprobs', 'targets of length', targets.shape[0] as number, rows);
    const top = checkInt('token_logprobs', 'n', n, 0, vocabulary);
    return [
      { dtype: 'f32', shape: [rows] },
      { dtype: 'i32', shape: [rows] },
      { dtype: 'i32', shape: [rows, top] },
      { dtype: 'f32', shape: [rows, top] },
    ];
  },
  gradient: 'nondifferentiable',
  lower: () => ({ kernel: 'token_logprobs', attrs: [] }),
});

/**
 * Log-probability and rank (1: none is likelier; of tied tokens each) of one token of each row, and the n likeliest tokens,
 * falling, ties to the lower id.
 * @param logits [S, V]
 * @param targets i32 [S]; below 0: none (log-probability and rank are 0)
 * @returns logprobs [S], ranks i32 [S], topTokens i32 [S, n], topLogprobs [S, n]
 */
export function tokenLogprobs(
  logits: Tensor,
  targets: Tensor,
  { n = 0 }: { n?: number } = {},
): { logprobs: Tensor; ranks: Tensor; topTokens: Tensor; topLogprobs: Tensor } {
  const [logprobs, ranks, topTokens, topLogprobs] = apply(tokenLogprobsOp, [logits, targets], {
    n,
  }) as [Tensor, Tensor, Tensor, Tensor];
  return { logprobs, ranks, topTokens, topLogprobs };
}
