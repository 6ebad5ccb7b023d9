/** Ranks and likeliest tokens of choices, as the native op gives them. */
import type { Addon, NativeBuffer } from '../core/addon.js';
import type { Choice } from './sampling.js';

const LEAST = 8;

/** Likeliest tokens that a program computes: few numbers, as each makes a program of its own. */
export function paddedTop(top: number, vocabSize: number): number {
  let padded = top === 0 ? 0 : LEAST;
  while (padded < top) padded *= 4;
  return Math.min(padded, vocabSize);
}

/**
 * Adds what `tokenLogprobs` gave to the choices of the first rows.
 * @param buffers logprobs, ranks, tokens and log-probabilities of the n likeliest
 */
export function readTop(addon: Addon, buffers: readonly NativeBuffer[], results: Choice[], n: number): void {
  const count = results.length;
  const ranks = new Int32Array(count);
  const tokens = new Int32Array(count * n);
  const logprobs = new Float32Array(count * n);
  addon.readBuffer(buffers[1] as NativeBuffer, ranks);
  if (n > 0) {
    addon.readBuffer(buffers[2] as NativeBuffer, tokens);
    addon.readBuffer(buffers[3] as NativeBuffer, logprobs);
  }
  for (const [i, choice] of results.entries()) {
    const top = Array.from({ length: n }, (_, j) => ({
      token: tokens[i * n + j] as number,
      logprob: logprobs[i * n + j] as number,
    }));
    results[i] = { ...choice, rank: ranks[i] as number, top };
  }
}
