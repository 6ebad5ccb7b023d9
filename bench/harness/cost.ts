/** What work costs at least: bytes that must be read, operations that must be done. */
import type { ComputeMode, KvType } from '../../src/core/format.js';
import { Weight } from '../../src/core/weight.js';
import { cacheBytesPerToken } from '../../src/inspect/memory.js';
import { cacheWidth, windowOf } from '../../src/models/decoder/config.js';
import type { Decoder } from '../../src/models/decoder/decoder.js';
import type { LimitBook } from './limits.js';

export interface Work {
  readonly bytes: number;
  readonly operations: number;
}

/** How many of E experts `tokens` tokens meet that choose K each, where all choices are as likely. */
export const expertsMet = (experts: number, topK: number, tokens: number): number =>
  experts * (1 - (1 - topK / experts) ** tokens);

/** Milliseconds at the machine's limits: of reading or of computing, whichever is longer. */
export async function leastTime(
  limits: LimitBook,
  { bytes, operations }: Work,
  mode: ComputeMode,
): Promise<number> {
  const rate = await limits.operations(mode);
  return 1000 * Math.max(bytes / (await limits.bandwidth()), rate ? operations / rate : 0);
}

/**
 * What one decode step of `tokens` sequences reads and multiplies; its keys and values are left out.
 * @param metShare of all experts the share that the tokens meet; default: what even routing would meet
 */
export function workOfStep(decoder: Decoder, tokens: number, metShare?: number): Work {
  const { embedding, head } = decoder.parts;
  const topK = decoder.config.moe?.topK ?? 1;
  let bytes = 0;
  let values = 0;
  for (const [name, w] of decoder.parameters) {
    if (!(w instanceof Weight)) continue;
    if (w === embedding.weight && w !== head.weight) continue; // a row a token
    const sparse = name.includes('.experts.');
    const met = metShare ?? expertsMet(w.experts, topK, tokens) / w.experts;
    bytes += w.bytes * (sparse ? met : 1);
    values += w.rows * w.columns * (sparse ? topK : 1);
  }
  return { bytes, operations: 2 * values * tokens };
}

/** Bytes of keys and values that a step of one sequence reads, `length` tokens of which are in the cache. */
export function keysOfStep({ config }: Decoder, kvCache: KvType, length: number): number {
  const layer = cacheBytesPerToken([cacheWidth(config)], kvCache);
  let tokens = 0;
  for (let i = 0; i < config.nLayers; i++) tokens += Math.min(length, windowOf(config, i) || length);
  return tokens * layer;
}

/** Operations of reading a prompt of `tokens` tokens, of which only the last meets the head. */
export function workOfPrompt(decoder: Decoder, tokens: number): Work {
  const { bytes, operations } = workOfStep(decoder, tokens);
  const { rows, columns } = decoder.parts.head.weight as Weight;
  return { bytes, operations: operations - 2 * rows * columns * (tokens - 1) };
}
