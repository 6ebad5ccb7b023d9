/** Adds to the scores of single tokens; what logit bias, suppressed tokens and a least length share. */
import type { ChainBatch } from './chain-batch.js';
import { wordOf } from './chain-batch.js';

/** [id, float bits]… as the native op reads them. */
export function biasWords(pairs: Iterable<readonly [id: number, bias: number]>): Int32Array {
  return Int32Array.from([...pairs].flatMap(([id, bias]) => [id, wordOf(bias)]));
}

export function writeBias(chain: ChainBatch, words: Int32Array): void {
  if (words.length > 0) chain.begin('tokenBias').list(words).end();
}
