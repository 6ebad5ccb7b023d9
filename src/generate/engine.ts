/** Runs steps of a decoder over a paged cache: prompts, chunks of prompts and single tokens, of one sequence or many. */
import { setImmediate as turn } from 'node:timers/promises';
import type { NativeAbort, NativeBuffer } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { DisposedError } from '../core/errors.js';
import type { ComputeMode, KvType } from '../core/format.js';
import { kvWrite, type PagedKeys, pagedAttention } from '../core/ops/attention.js';
import { kvCopy } from '../core/ops/kv-copy.js';
import { sample } from '../core/ops/sampling.js';
import { concat, reshape, slice } from '../core/ops/shape.js';
import { Executable } from '../core/program/compile.js';
import { Tensor } from '../core/tensor.js';
import { cacheWidths } from '../models/config.js';
import type { Decoder } from '../models/decoder.js';
import type { Attend } from '../nn/attention.js';
import { KV_BLOCK } from '../nn/kv-blocks.js';
import { KvCache } from '../nn/kv-cache.js';
import { type BlockCopy, KvSequence, type KvSequenceOptions } from '../nn/kv-sequence.js';
import type { Choice, Sampling } from './sampling.js';

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
}

export interface StepOutput {
  /** For each row with a sampling, in order; its earlier ones first. */
  readonly results: StepResult[];
  /** Per sparse layer, i32 [N, K] of the tokens fed, in order. */
  readonly experts: Int32Array[];
  /** f32 [results, V], if asked for. */
  readonly logits: Float32Array | null;
}

/** What decides the program of a step. */
interface StepForm {
  readonly tokens: number;
  readonly rows: number;
  readonly sampled: number;
  readonly history: number;
  /** Some sequence has a prefix. */
  readonly prefix: boolean;
  readonly routing: boolean;
  readonly logits: boolean;
}

interface StepProgram {
  readonly executable: Executable;
  readonly buffers: NativeBuffer[];
  readonly arrays: readonly (Int32Array | Float32Array | Uint32Array)[];
}

/** Tokens a step is padded to: few programs, little waste. */
export function paddedTokens(n: number): number {
  if (n <= 8) return n;
  const step = n <= 64 ? 8 : n <= 256 ? 32 : 64;
  return Math.ceil(n / step) * step;
}

/** Sequences, and choices, a step is padded to. */
export function paddedRows(n: number): number {
  if (n <= 4) return n;
  const step = 2 ** Math.floor(Math.log2(n - 1) - 1);
  return Math.ceil(n / step) * step;
}

export class StepEngine {
  readonly cache: KvCache;
  readonly #programs = new Map<string, StepProgram>();
  readonly #copies = new Map<number, StepProgram>();
  readonly #tableWidth: number;
  #queue: Promise<unknown> = Promise.resolve();
  #disposed = false;

  constructor(
    readonly device: Device,
    readonly decoder: Decoder,
    readonly compute: ComputeMode,
    readonly contextLength: number,
    cacheTokens: number,
    kvCache: KvType,
  ) {
    const layers = cacheWidths(decoder.config);
    this.cache = new KvCache(device, { layers, tokens: cacheTokens, type: kvCache });
    this.#tableWidth = Math.ceil(contextLength / KV_BLOCK);
  }

  newSequence(options: KvSequenceOptions = {}): KvSequence {
    return new KvSequence(this.cache, options);
  }

  /** Runs after all steps asked for before. */
  step(rows: readonly StepRow[], options: StepOptions = {}): Promise<StepOutput> {
    const turn = this.#queue.then(() => this.#step(rows, options));
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  /** Builds the programs of usual steps, so that the first tokens need not wait for them. */
  async warm(): Promise<void> {
    const greedy = { sampled: 1, history: 0, prefix: false, routing: false, logits: false };
    for (const tokens of [1, 32, MAX_CHUNK]) {
      const built = this.#queue.then(() => this.#program({ tokens, rows: 1, ...greedy }));
      this.#queue = built.catch(() => undefined);
      await built;
    }
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#queue;
    for (const { executable, buffers } of [...this.#programs.values(), ...this.#copies.values()]) {
      executable.dispose();
      for (const b of buffers) this.device.addon.disposeBuffer(b);
    }
    this.#programs.clear();
    this.#copies.clear();
    this.cache.dispose();
  }

  async #step(
    rows: readonly StepRow[],
    { abort, routing = false, logits = false }: StepOptions,
  ): Promise<StepOutput> {
    if (this.#disposed) throw new DisposedError('model');
    const real = rows.reduce((n, row) => n + row.tokens.length, 0);
    const sampling = rows.flatMap(samplingsOf);
    const penalty = sampling.some(({ sampler }) => sampler.repetitionPenalty !== 1);
    const form = {
      tokens: paddedTokens(real),
      rows: paddedRows(rows.length),
      sampled: paddedRows(sampling.length),
      history: penalty ? this.contextLength : 0,
      prefix: rows.some((row) => (row.prefixLength ?? 0) > 0),
      routing,
      logits: logits && sampling.length > 0,
    };
    const program = await this.#program(form);
    this.#fill(program, rows, sampling, form.history);
    await this.#copy(this.cache.takeCopies(), abort);
    const outputs = await program.executable.run(program.buffers, abort ? { abort } : {});
    for (const row of rows) if (!row.slots) row.sequence.commit();
    return this.#collect(outputs, real, sampling.length, form);
  }

  #fill(
    program: StepProgram,
    rows: readonly StepRow[],
    sampling: readonly Sampling[],
    historyLength: number,
  ): void {
    const [tokens, positions, slots, offsets, lengths, table, picked, history, params, seeds, prefix] =
      program.arrays as [
        Int32Array,
        Int32Array,
        Int32Array,
        Int32Array,
        Int32Array,
        Int32Array,
        Int32Array,
        Int32Array,
        Float32Array,
        Uint32Array,
        Int32Array?,
      ];
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
      for (let left = samplingsOf(row).length; left > 0; left--) picked[s++] = at - left;
    });
    // Rows and choices of padding: sequences without tokens, and the first token's logits once more.
    offsets.fill(at, rows.length + 1);
    lengths.fill(0, rows.length);
    picked.fill(0, s);
    history.fill(-1);
    params.fill(1, 4 * s);
    sampling.forEach(({ sampler, history: past, drawn }, i) => {
      const { temperature, topK, topP, repetitionPenalty, seed } = sampler;
      params.set([temperature, topK, topP, repetitionPenalty], 4 * i);
      seeds.set([seed, drawn], 2 * i);
      if (historyLength > 0) history.set(past.slice(-historyLength), i * historyLength);
    });
    const { addon } = this.device;
    program.arrays.forEach((array, i) => {
      if (array.length > 0) addon.writeBuffer(program.buffers[i] as NativeBuffer, array);
    });
  }

  #collect(outputs: NativeBuffer[], real: number, sampled: number, form: StepForm): StepOutput {
    const { addon } = this.device;
    const { moe, vocabSize } = this.decoder.config;
    const results: StepResult[] = [];
    let at = form.sampled > 0 ? 2 : 1; // without a sampled row the first output is only there to be computed
    let logits: Float32Array | null = null;
    if (sampled > 0) {
      const tokens = new Int32Array(sampled);
      const logprobs = new Float32Array(sampled);
      addon.readBuffer(outputs[0] as NativeBuffer, tokens);
      addon.readBuffer(outputs[1] as NativeBuffer, logprobs);
      for (const [i, token] of tokens.entries()) results.push({ token, logprob: logprobs[i] as number });
    }
    if (form.logits) {
      logits = new Float32Array(sampled * vocabSize);
      addon.readBuffer(outputs[at++] as NativeBuffer, logits);
    }
    const experts = form.routing
      ? outputs.slice(at).map((buffer) => {
          const ids = new Int32Array(real * (moe?.topK ?? 0));
          addon.readBuffer(buffer, ids);
          return ids;
        })
      : [];
    for (const buffer of outputs) addon.disposeBuffer(buffer);
    return { results, experts, logits };
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
    const { tokens: n, rows: s, sampled, history: h, routing, logits } = form;
    const i32 = (...shape: number[]): Tensor => Tensor.placeholder('i32', shape);
    const [tokens, positions, slots] = [i32(n), i32(n), i32(n)];
    const [offsets, lengths, blockTable, picked] = [
      i32(s + 1),
      i32(s),
      i32(s, this.#tableWidth),
      i32(sampled),
    ];
    const history = i32(sampled, h);
    const prefix = form.prefix ? i32(s) : null;
    const params = Tensor.placeholder('f32', [sampled, 4]);
    const seeds = Tensor.placeholder('u32', [sampled, 2]);
    const attend =
      (layer: number): Attend =>
      (q, k, v, options) => {
        const keys: PagedKeys = {
          k: kvWrite(this.cache.k[layer] as Tensor, k, slots, { transpose: true }),
          v: kvWrite(this.cache.v[layer] as Tensor, v, slots),
          lengths,
          blockTable,
        };
        return pagedAttention(q, keys, offsets, { ...options, prefix });
      };
    const out = this.decoder.forward({ tokens, positions, attend, rows: picked }, this.compute);
    const inputs = [tokens, positions, slots, offsets, lengths, blockTable, picked, history, params, seeds];
    if (prefix) inputs.push(prefix);
    const outputs: Tensor[] = [];
    if (sampled > 0) {
      const choice = sample({ logits: out.logits, history, params, seeds });
      outputs.push(choice.tokens, choice.logprobs);
      if (logits) outputs.push(out.logits);
    } else {
      outputs.push(...out.hiddenStates.slice(-1)); // keeps the cache writes of all layers alive
    }
    if (routing) outputs.push(...out.routing.map((r) => r.expertIds));
    await turn();
    return this.#compile(inputs, outputs);
  }

  /** Copies blocks in all layers. */
  async #copy(copies: readonly BlockCopy[], abort: NativeAbort | undefined): Promise<void> {
    if (copies.length === 0) return;
    const n = paddedRows(copies.length);
    let program = this.#copies.get(n);
    if (!program) {
      const pairs = Tensor.placeholder('i32', [n, 2]);
      const caches = [...this.cache.k, ...this.cache.v].filter((cache) => cache.size > 0);
      const copied = caches.map((cache) => kvCopy(cache, pairs));
      // one element of each cache keeps the copies alive
      const first = copied.map((cache) => slice(reshape(cache, [cache.size]), 0, 0, 1));
      program = await this.#compile([pairs], [concat(first, 0)]);
      this.#copies.set(n, program);
    }
    const pairs = program.arrays[0] as Int32Array;
    pairs.fill(-1);
    pairs.set(copies.flatMap(({ from, to }) => [from, to]));
    this.device.addon.writeBuffer(program.buffers[0] as NativeBuffer, pairs);
    const outputs = await program.executable.run(program.buffers, abort ? { abort } : {});
    for (const buffer of outputs) this.device.addon.disposeBuffer(buffer);
  }

  async #compile(inputs: readonly Tensor[], outputs: readonly Tensor[]): Promise<StepProgram> {
    const executable = await Executable.buildInTurns(this.device, inputs, outputs);
    const arrays = inputs.map((t) =>
      t.dtype === 'f32'
        ? new Float32Array(t.size)
        : t.dtype === 'u32'
          ? new Uint32Array(t.size)
          : new Int32Array(t.size),
    );
    return {
      executable,
      buffers: inputs.map((t) => this.device.addon.createBuffer(t.bytes)),
      arrays,
    };
  }
}
