/** What a step over a paged cache is told of its rows: the inputs of its program, and how rows fill them. */
import { type PagedKeys, pagedAttention } from '../../core/ops/attention.js';
import { less, maximum, sub, where } from '../../core/ops/elementwise.js';
import { takeRows } from '../../core/ops/indexing.js';
import { CHAIN_ROW_WORDS } from '../../core/ops/sampling.js';
import { Tensor } from '../../core/tensor.js';
import type { Attend } from '../../nn/attention.js';
import type { AttendMemory } from '../../nn/cross-attention.js';
import { KV_BLOCK } from '../../nn/kv-blocks.js';
import type { KvCache } from '../../nn/kv-cache.js';
import type { KvSequence } from '../../nn/kv-sequence.js';
import type { ChainBatch } from '../samplers/chain-batch.js';
import type { Memory } from './memory.js';
import { paddedRows } from './padding.js';
import type { Choosing } from './sampling.js';

/** Tokens of one step at most: large enough for the matrix units, small enough that an abort is quick. */
export const MAX_CHUNK = 512;

/** One sequence's part in a step. */
export interface StepRow {
  readonly sequence: KvSequence;
  /** Tokens to feed, at least one; `chosenBefore` for one that the step before chooses. */
  readonly tokens: readonly number[];
  /** How the token behind them is chosen; null: the tokens are only written to the cache. */
  readonly sampling: Choosing | null;
  /** How tokens behind the ones before the last are chosen, the last of them behind the last but one: drafts to be checked. */
  readonly earlier?: readonly Choosing[];
  /** The choices themselves do not matter, only the scores that their chains leave. Default false. */
  readonly scored?: boolean;
  /** Tokens at the beginning that see each other in both directions; they must come in one step. Default 0. */
  readonly prefixLength?: number;
  /** What the tokens attend over besides, where the model has an encoder. */
  readonly memory?: Memory | null;
  /** Where `sequence.extend` has put the tokens. Default: the step extends the sequence itself. */
  readonly slots?: readonly number[];
}

type Named<K extends string, V> = { readonly [key in K]: V };
type Optional<K extends string, V> = { readonly [key in K]?: V };

/** i32 tokens, positions and slots [N]; offsets [S + 1]. */
export type Fed<V> = Named<'tokens' | 'positions' | 'slots' | 'offsets', V>;

/**
 * And lengths [S], table [S, blocks], picked [M]; chains [M, 6] and their data; prefix [S], memoryLengths [S] and memoryTable
 * [S, blocks] where the step has them.
 */
export type StepValues<V> = Fed<V> &
  Named<'lengths' | 'table' | 'picked', V> &
  Optional<'prefix' | 'memoryLengths' | 'memoryTable', V> &
  Named<'chains' | 'data', V>;

export interface StepSizes {
  readonly tokens: number;
  readonly rows: number;
  /** Choices. */
  readonly sampled: number;
  /** Words of the chains and histories. */
  readonly words: number;
  /** Tokens of a sequence at most. */
  readonly contextLength: number;
  /** Some sequence has a prefix. Default false. */
  readonly prefix?: boolean;
  /** The tokens attend over a memory. Default false. */
  readonly memory?: boolean;
}

const i32 = (...shape: number[]): Tensor => Tensor.placeholder('i32', shape);

export const fedInputs = (tokens: number, rows: number): Fed<Tensor> => ({
  tokens: i32(tokens),
  positions: i32(tokens),
  slots: i32(tokens),
  offsets: i32(rows + 1),
});

export function stepInputs(sizes: StepSizes): StepValues<Tensor> {
  const { tokens, rows, sampled, words, contextLength, prefix = false, memory = false } = sizes;
  const width = Math.ceil(contextLength / KV_BLOCK);
  return {
    ...fedInputs(tokens, rows),
    lengths: i32(rows),
    table: i32(rows, width),
    picked: i32(sampled),
    ...(prefix ? { prefix: i32(rows) } : {}),
    ...(memory ? { memoryLengths: i32(rows), memoryTable: i32(rows, width) } : {}),
    chains: i32(sampled, CHAIN_ROW_WORDS),
    data: i32(words), // the last, as most of it is spare
  };
}

/** Stands for a token that the step before chooses, as its result number so many: it may run still. */
export const chosenBefore = (result: number): number => -1 - result;

/** i32: what a step leaves for the next one. */
export const choicesOfStep = (): Tensor => i32(MAX_CHUNK);

/** i32 [N]: the tokens with what stands for another put right; a choice that failed, below 0, is token 0 here. */
export const fedTokens = (tokens: Tensor, before: Tensor): Tensor =>
  where(less(tokens, 0), maximum(takeRows(before, maximum(sub(-1, tokens), -1)), 0), tokens);

/** How a layer writes to the cache and mixes values over it. */
export const attendOver =
  (cache: KvCache, layer: number, { slots, offsets, lengths, table, prefix }: StepValues<Tensor>) =>
  (...[q, k, v, options]: Parameters<Attend>): Tensor => {
    const keys: PagedKeys = { ...cache.write(layer, k, v, slots), lengths, blockTable: table };
    return pagedAttention(q, keys, offsets, { ...options, prefix: prefix ?? null });
  };

/** How a layer mixes values over the memory. */
export const attendOverMemory =
  (cache: KvCache, layer: number, { offsets, memoryLengths, memoryTable }: StepValues<Tensor>) =>
  (...[q, options]: Parameters<AttendMemory>): Tensor => {
    const [k, v] = [cache.k[layer] as Tensor, cache.v[layer] as PagedKeys['v']];
    const keys = { k, v, lengths: memoryLengths as Tensor, blockTable: memoryTable as Tensor };
    return pagedAttention(q, keys, offsets, { ...options, causal: false });
  };

interface Contents {
  readonly real: number;
  readonly sampling: Choosing[];
  readonly scored: boolean[];
  readonly prefix: boolean;
}

/** What rows bring together: so many tokens, these choices, which of them only want scores, and whether any row has a prefix. */
export function contents(rows: readonly StepRow[]): Contents {
  const sampling: Choosing[] = [];
  const scored: boolean[] = [];
  let real = 0;
  let prefix = false;
  for (const row of rows) {
    real += row.tokens.length;
    if (row.sampling) sampling.push(...(row.earlier ?? []), row.sampling);
    while (scored.length < sampling.length) scored.push(row.scored === true);
    prefix ||= (row.prefixLength ?? 0) > 0;
  }
  return { real, sampling, scored, prefix };
}

/** `to.set(values, at)`, which takes longer than this for lists of a few numbers. */
function put(to: Int32Array, at: number, values: readonly number[]): void {
  for (let i = 0; i < values.length; i++) to[at + i] = values[i] as number;
}

/** Puts the tokens of the rows in their places, one row after another; what is padding goes nowhere. */
export function fillFed(
  { tokens, positions, slots, offsets }: Fed<Int32Array>,
  rows: readonly Pick<StepRow, 'sequence' | 'tokens' | 'slots'>[],
): void {
  tokens.fill(0);
  positions.fill(0);
  slots.fill(-1);
  let at = 0;
  for (const [r, row] of rows.entries()) {
    const places = row.slots ?? row.sequence.extend(row.tokens);
    put(tokens, at, row.tokens);
    put(slots, at, places);
    const start = row.sequence.length - row.tokens.length;
    for (let i = 0; i < row.tokens.length; i++) positions[at + i] = start + i;
    at += row.tokens.length;
    offsets[r + 1] = at;
  }
  offsets.fill(at, rows.length + 1);
}

/** The same, and what the rows see and choose. Padding: sequences without tokens, and the first token's logits once more. */
export function fillStep(to: StepValues<Int32Array>, rows: readonly StepRow[]): void {
  fillFed(to, rows);
  const { offsets, lengths, table, picked, prefix, memoryLengths, memoryTable } = to;
  const width = table.length / lengths.length;
  let s = 0;
  for (const [r, row] of rows.entries()) {
    lengths[r] = row.sequence.length;
    put(table, r * width, row.sequence.blocks);
    if (prefix) prefix[r] = row.prefixLength ?? 0;
    const memory = row.memory?.sequence;
    if (memoryLengths && memoryTable && memory) {
      memoryLengths[r] = memory.length;
      put(memoryTable, r * width, memory.blocks);
    }
    const choices = row.sampling ? 1 + (row.earlier?.length ?? 0) : 0;
    for (let left = choices; left > 0; left--) picked[s++] = (offsets[r + 1] as number) - left;
  }
  lengths.fill(0, rows.length);
  memoryLengths?.fill(0, rows.length);
  picked.fill(0, s);
}

/** Writes the chains of the choices, and of the padding behind them. */
export function writeChains(chains: ChainBatch, sampling: readonly Choosing[]): void {
  chains.clear();
  for (const one of sampling) one.write(chains);
  for (let i = sampling.length; i < paddedRows(sampling.length); i++) chains.padding();
}
