/** Runs steps of a decoder over a paged cache: prompts, chunks of prompts and single tokens, of one sequence or many. */
import { setImmediate as turn } from 'node:timers/promises';
import type { NativeAbort, NativeBuffer } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { DisposedError } from '../core/errors.js';
import type { ComputeMode, KvType } from '../core/format.js';
import { type PagedKeys, pagedAttention } from '../core/ops/attention.js';
import { kvCopy } from '../core/ops/kv-copy.js';
import { logSoftmax } from '../core/ops/norm.js';
import { CHAIN_ROW_WORDS, processLogits, sample, tokenLogprobs } from '../core/ops/sampling.js';
import { concat, reshape, slice } from '../core/ops/shape.js';
import { Tensor } from '../core/tensor.js';
import type { Attend } from '../nn/attention.js';
import type { AttendMemory } from '../nn/cross-attention.js';
import { KV_BLOCK } from '../nn/kv-blocks.js';
import { KvCache } from '../nn/kv-cache.js';
import { type BlockCopy, KvSequence, type KvSequenceOptions } from '../nn/kv-sequence.js';
import { HookedRows } from './hooked-rows.js';
import { type Memory, SourceMemory } from './memory.js';
import { paddedRows, paddedTokens } from './padding.js';
import { ChainBatch, chainCapacity } from './samplers/chain-batch.js';
import type { Choice, Sampling } from './sampling.js';
import type { StepModel } from './step-model.js';
import { StepProgram } from './step-program.js';
import { paddedTop, readTop } from './top-tokens.js';

/** Tokens of one step at most: large enough for the matrix units, small enough that an abort is quick. */
export const MAX_CHUNK = 512;

/** One sequence's part in a step. */
export interface StepRow {
  readonly sequence: KvSequence;
  /** Tokens to feed, at least one. */
  readonly tokens: readonly number[];
  /** How the token behind them is chosen; null: the tokens are only written to the cache. */
  readonly sampling: Sampling | null;
  /** How tokens behind the ones before the last are chosen, the last of them behind the last but one: drafts to be checked. */
  readonly earlier?: readonly Sampling[];
  /** Tokens at the beginning that see each other in both directions; they must come in one step. Default 0. */
  readonly prefixLength?: number;
  /** What the tokens attend over besides, where the model has an encoder. */
  readonly memory?: Memory | null;
  /** Where `sequence.extend` has put the tokens. Default: the step extends the sequence itself. */
  readonly slots?: readonly number[];
}

const samplingsOf = ({ earlier = [], sampling }: StepRow): readonly Sampling[] =>
  sampling ? [...earlier, sampling] : [];

export type StepResult = Choice;

export interface StepOptions {
  abort?: NativeAbort;
  /** Also return which experts each fed token met. */
  routing?: boolean;
  /** Also return the logits that each row with a sampling chose from. */
  logits?: boolean;
  /** Also return the log-probabilities of each row with a sampling, as its chain leaves them. */
  scores?: boolean;
  /** Also return the hidden state of each fed token, after the final norm. */
  hidden?: boolean;
  /** Also return the rank of each choice, and so many of the likeliest tokens. */
  top?: number;
}

export interface StepOutput {
  /** For each row with a sampling, in order; its earlier ones first. */
  readonly results: StepResult[];
  /** Per sparse layer, i32 [N, K] of the tokens fed, in order. */
  readonly experts: Int32Array[];
  /** f32 [results, V], if asked for. */
  readonly logits: Float32Array | null;
  /** f32 [results, V]: log-probabilities, processed, if asked for. */
  readonly scores: Float32Array | null;
  /** f32 [N, D] of the tokens fed, if asked for. */
  readonly hidden: Float32Array | null;
}

/** What decides the program of a step. */
interface StepForm {
  readonly tokens: number;
  readonly rows: number;
  readonly sampled: number;
  /** Words of the chains and histories. */
  readonly words: number;
  /** Some sequence has a prefix. */
  readonly prefix: boolean;
  readonly routing: boolean;
  readonly logits: boolean;
  readonly scores: boolean;
  readonly hidden: boolean;
  /** Likeliest tokens behind each choice; -1: not even ranks. */
  readonly top: number;
}

export class StepEngine {
  readonly cache: KvCache;
  /** What steps attend over besides, where the model has an encoder. */
  readonly memory: SourceMemory | null;
  readonly #programs = new Map<string, StepProgram>();
  readonly #copies = new Map<number, StepProgram>();
  readonly #tableWidth: number;
  readonly #chains = new ChainBatch();
  readonly #hooked: HookedRows;
  #queue: Promise<unknown> = Promise.resolve();
  #disposed = false;

  constructor(
    readonly device: Device,
    readonly model: StepModel,
    readonly compute: ComputeMode,
    readonly contextLength: number,
    cacheTokens: number,
    kvCache: KvType,
  ) {
    this.cache = new KvCache(device, { layers: model.cache, tokens: cacheTokens, type: kvCache });
    this.memory =
      model.memory && new SourceMemory(device, model.memory, compute, contextLength, cacheTokens, kvCache);
    this.#tableWidth = Math.ceil(contextLength / KV_BLOCK);
    this.#hooked = new HookedRows(device, model.vocabSize);
  }

  newSequence(options: KvSequenceOptions = {}): KvSequence {
    return new KvSequence(this.cache, options);
  }

  /** Runs after all steps asked for before. */
  step(rows: readonly StepRow[], options: StepOptions = {}): Promise<StepOutput> {
    return this.#inTurn(() => this.#step(rows, options));
  }

  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const turn = this.#queue.then(task);
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  /** Builds the programs of usual steps, so that the first tokens need not wait for them. */
  async warm(): Promise<void> {
    const flags = { prefix: false, routing: false, logits: false, scores: false, hidden: false, top: -1 };
    const greedy = { sampled: 1, words: chainCapacity(0), ...flags };
    for (const tokens of this.memory ? [1] : [1, 32, MAX_CHUNK])
      await this.#inTurn(() => this.#program({ tokens, rows: 1, ...greedy }));
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#queue;
    for (const program of [...this.#programs.values(), ...this.#copies.values()]) program.dispose();
    this.#programs.clear();
    this.#copies.clear();
    this.#hooked.dispose();
    this.cache.dispose();
    await this.memory?.dispose();
  }

  async #step(
    rows: readonly StepRow[],
    { abort, routing = false, logits = false, scores = false, hidden = false, top }: StepOptions,
  ): Promise<StepOutput> {
    if (this.#disposed) throw new DisposedError('model');
    const real = rows.reduce((n, row) => n + row.tokens.length, 0);
    const sampling = rows.flatMap(samplingsOf);
    const form = {
      tokens: paddedTokens(real),
      rows: paddedRows(rows.length),
      sampled: paddedRows(sampling.length),
      words: this.#writeChains(sampling),
      prefix: rows.some((row) => (row.prefixLength ?? 0) > 0),
      routing,
      logits: sampling.length > 0 && (logits || sampling.some(({ hooked }) => hooked)),
      scores: scores && sampling.length > 0,
      hidden,
      top: top === undefined || sampling.length === 0 ? -1 : paddedTop(top, this.model.vocabSize),
    };
    const program = await this.#program(form);
    this.#fill(program, rows);
    await this.#copy(this.cache.takeCopies(), abort);
    const outputs = await program.run(abort);
    for (const row of rows) if (!row.slots) row.sequence.commit();
    const output = this.#collect(outputs, real, sampling.length, form);
    await this.#hooked.choose(sampling, output, form.top);
    return output;
  }

  /** Returns the words that the chains take in the program. */
  #writeChains(sampling: readonly Sampling[]): number {
    const chains = this.#chains;
    chains.clear();
    for (const one of sampling) one.write(chains);
    for (let i = sampling.length; i < paddedRows(sampling.length); i++) chains.padding();
    return chainCapacity(chains.data.length);
  }

  #fill(program: StepProgram, rows: readonly StepRow[]): void {
    const [tokens, positions, slots, offsets, lengths, table, picked] = program.arrays as [
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
    ];
    const rest = program.arrays.slice(7);
    const [memoryLengths, memoryTable] = this.memory ? rest.splice(0, 2) : [];
    const [prefix] = rest;
    tokens.fill(0);
    positions.fill(0);
    slots.fill(-1);
    let at = 0;
    let s = 0;
    rows.forEach((row, r) => {
      const places = row.slots ?? row.sequence.extend(row.tokens);
      const start = row.sequence.length - row.tokens.length;
      tokens.set(row.tokens, at);
      slots.set(places, at);
      for (let i = 0; i < row.tokens.length; i++) positions[at + i] = start + i;
      at += row.tokens.length;
      offsets[r + 1] = at;
      lengths[r] = row.sequence.length;
      if (prefix) prefix[r] = row.prefixLength ?? 0;
      table.set(row.sequence.blocks, r * this.#tableWidth);
      const memory = row.memory?.sequence;
      if (memoryLengths && memory) {
        memoryLengths[r] = memory.length;
        memoryTable?.set(memory.blocks, r * this.#tableWidth);
      }
      for (let left = samplingsOf(row).length; left > 0; left--) picked[s++] = at - left;
    });
    // Rows and choices of padding: sequences without tokens, and the first token's logits once more.
    offsets.fill(at, rows.length + 1);
    lengths.fill(0, rows.length);
    memoryLengths?.fill(0, rows.length);
    picked.fill(0, s);
    program.fill(this.#chains.rows, this.#chains.data);
  }

  #collect(outputs: NativeBuffer[], real: number, sampled: number, form: StepForm): StepOutput {
    const { addon } = this.device;
    const { topK, vocabSize, dModel } = this.model;
    const results: StepResult[] = [];
    let at = form.sampled > 0 ? 3 : 1; // without a sampled row the first output is only there to be computed
    let logits: Float32Array | null = null;
    if (sampled > 0) {
      const tokens = new Int32Array(sampled);
      const logprobs = new Float32Array(sampled);
      addon.readBuffer(outputs[0] as NativeBuffer, tokens);
      addon.readBuffer(outputs[1] as NativeBuffer, logprobs);
      const chosen = new Float32Array(sampled);
      addon.readBuffer(outputs[2] as NativeBuffer, chosen);
      for (const [i, token] of tokens.entries())
        results.push({ token, logprob: logprobs[i] as number, chosen: chosen[i] as number });
    }
    if (form.logits) {
      logits = new Float32Array(sampled * vocabSize);
      addon.readBuffer(outputs[at++] as NativeBuffer, logits);
    }
    let scores: Float32Array | null = null;
    if (form.scores) {
      scores = new Float32Array(sampled * vocabSize);
      addon.readBuffer(outputs[at++] as NativeBuffer, scores);
    }
    let hidden: Float32Array | null = null;
    if (form.hidden) {
      hidden = new Float32Array(real * dModel);
      addon.readBuffer(outputs[at++] as NativeBuffer, hidden);
    }
    if (form.top >= 0) readTop(addon, outputs.slice(at, at + 4), results, form.top);
    if (form.top >= 0) at += 4;
    const experts = form.routing
      ? outputs.slice(at).map((buffer) => {
          const ids = new Int32Array(real * topK);
          addon.readBuffer(buffer, ids);
          return ids;
        })
      : [];
    for (const buffer of outputs) addon.disposeBuffer(buffer);
    return { results, experts, logits, scores, hidden };
  }

  /** Called by one step at a time. */
  async #program(form: StepForm): Promise<StepProgram> {
    const key = Object.values(form).join(' ');
    let program = this.#programs.get(key);
    if (!program) {
      program = await this.#build(form);
      this.#programs.set(key, program);
    }
    return program;
  }

  async #build(form: StepForm): Promise<StepProgram> {
    const { tokens: n, rows: s, sampled, words, routing, logits } = form;
    const i32 = (...shape: number[]): Tensor => Tensor.placeholder('i32', shape);
    const [tokens, positions, slots] = [i32(n), i32(n), i32(n)];
    const [offsets, lengths, blockTable, picked] = [
      i32(s + 1),
      i32(s),
      i32(s, this.#tableWidth),
      i32(sampled),
    ];
    const prefix = form.prefix ? i32(s) : null;
    const chains = [i32(sampled, CHAIN_ROW_WORDS), i32(words)] as const;
    const attend =
      (layer: number): Attend =>
      (q, k, v, options) => {
        const keys: PagedKeys = {
          ...this.cache.write(layer, k, v, slots),
          lengths,
          blockTable,
        };
        return pagedAttention(q, keys, offsets, { ...options, prefix });
      };
    const [memoryLengths, memoryTable] = [i32(s), i32(s, this.#tableWidth)];
    const attendMemory =
      (layer: number): AttendMemory =>
      (q, options) => {
        const { cache } = this.memory as SourceMemory;
        const [k, v] = [cache.k[layer] as Tensor, cache.v[layer] as PagedKeys['v']];
        const keys = { k, v, lengths: memoryLengths, blockTable: memoryTable };
        return pagedAttention(q, keys, offsets, { ...options, causal: false });
      };
    const out = this.model.forward({ tokens, positions, attend, attendMemory, rows: picked }, this.compute);
    const inputs = [tokens, positions, slots, offsets, lengths, blockTable, picked];
    if (this.memory) inputs.push(memoryLengths, memoryTable);
    if (prefix) inputs.push(prefix);
    const outputs: Tensor[] = [];
    if (sampled > 0) {
      const [rows, data] = chains;
      const choice = sample({ logits: out.logits, rows, data });
      outputs.push(choice.tokens, choice.logprobs, choice.chosen);
      if (logits) outputs.push(out.logits);
      if (form.scores) outputs.push(processLogits({ logits: logSoftmax(out.logits), rows, data }));
    } else {
      outputs.push(...out.hiddenStates.slice(-1)); // keeps the cache writes of all layers alive
    }
    if (form.hidden) outputs.push(this.model.normed(out.hiddenStates.at(-1) as Tensor));
    if (form.top >= 0) {
      const likely = tokenLogprobs(out.logits, outputs[0] as Tensor, { n: form.top });
      outputs.push(...Object.values(likely));
    }
    if (routing) outputs.push(...out.routing.map((r) => r.expertIds));
    await turn();
    return StepProgram.build(this.device, inputs, outputs, chains);
  }

  /** Copies blocks in all layers. */
  async #copy(copies: readonly BlockCopy[], abort: NativeAbort | undefined): Promise<void> {
    if (copies.length === 0) return;
    const n = paddedRows(copies.length);
    let program = this.#copies.get(n);
    if (!program) {
      const pairs = Tensor.placeholder('i32', [n, 2]);
      const caches = this.cache.tensors.filter((cache) => cache.size > 0);
      const copied = caches.map((cache) => kvCopy(cache, pairs));
      // one element of each cache keeps the copies alive
      const first = copied.map((cache) => slice(reshape(cache, [cache.size]), 0, 0, 1));
      program = await StepProgram.build(this.device, [pairs], [concat(first, 0)]);
      this.#copies.set(n, program);
    }
    const pairs = program.arrays[0] as Int32Array;
    pairs.fill(-1);
    pairs.set(copies.flatMap(({ from, to }) => [from, to]));
    program.fill();
    for (const buffer of await program.run(abort)) this.device.addon.disposeBuffer(buffer);
  }
}
