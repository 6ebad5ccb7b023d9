/**
 * Drafts by a head that the model was trained with: it reads the state behind a token and the token that was chosen there, and
 * says what follows (multi-token prediction, DeepSeek-AI 2024, DeepSeek-V3, section 2.2; EAGLE, Li et al. 2024). Its one layer
 * attends over its own cache. Further guesses take its own state in place of the model's.
 */
import type { NativeBuffer } from '../core/addon.js';
import { checkOptions, checkWhole, DisposedError, mismatch } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import { pagedAttention } from '../core/ops/attention.js';
import { takeRows } from '../core/ops/indexing.js';
import { CHAIN_ROW_WORDS, sample } from '../core/ops/sampling.js';
import { Tensor } from '../core/tensor.js';
import { cacheWidth } from '../models/config.js';
import type { Decoder } from '../models/decoder.js';
import type { Attend } from '../nn/attention.js';
import { KV_BLOCK } from '../nn/kv-blocks.js';
import { KvCache, type KvWidths } from '../nn/kv-cache.js';
import { KvSequence } from '../nn/kv-sequence.js';
import { MAX_CHUNK, type StepEngine } from './engine.js';
import { paddedTokens } from './padding.js';
import { ChainBatch, chainCapacity } from './samplers/chain-batch.js';
import type { Sampling } from './sampling.js';
import { checkDrafter, type Draft, type DraftContext, type Drafter } from './speculative.js';
import { StepProgram } from './step-program.js';

export interface PredictionInputs {
  /** [N, D]: after the final norm, behind the tokens before `tokens`; or the head's own states. */
  readonly hidden: Tensor;
  /** i32 [N] */
  readonly tokens: Tensor;
  /** i32 [N]: of the states. */
  readonly positions: Tensor;
  readonly attend: Attend;
  /** i32 [M]: the rows that get logits. */
  readonly rows: Tensor;
}

export interface PredictionHead {
  /** What its layer keeps of a token. */
  readonly cache: KvWidths;
  /** hidden [N, D] takes the place of the model's for the next guess; logits [M, V] of the token behind `tokens`. */
  forward(inputs: PredictionInputs, compute: ComputeMode): { hidden: Tensor; logits: Tensor };
}

export interface DraftHeadOptions {
  /** Guesses in one step. Default 2: a head is trained for the first one. */
  tokens?: number;
  /** Tokens that all texts together may hold in its cache; texts beyond get no guesses. Default: as many as the model's. */
  cacheTokens?: number;
}

/** A drafter that owns a cache and programs: to be disposed of, before the model. */
export interface DisposableDrafter extends Drafter {
  dispose(): Promise<void>;
}

export function draftHead(
  { engine }: { readonly engine: StepEngine },
  head: PredictionHead,
  options: DraftHeadOptions = {},
): DisposableDrafter {
  checkOptions('draftHead', options, ['tokens', 'cacheTokens']);
  const { tokens = 2, cacheTokens = engine.cache.blocks * KV_BLOCK } = options;
  checkWhole('draftHead', 'cacheTokens', cacheTokens, 1);
  const drafter = checkDrafter({
    name: 'draftHead',
    tokens,
    readsHidden: true,
    start: () => new HeadDraft(runner),
  });
  const runner = new HeadRunner(engine, head, cacheTokens);
  return { ...drafter, dispose: () => runner.dispose() };
}

/**
 * The first layer of a model that predicts further ahead (DeepSeek-V3, GLM-4.5); it is used again for each further guess.
 * @throws SwitchyardError ERR_UNSUPPORTED for a model without one
 */
export function mtp(
  model: { readonly engine: StepEngine; readonly decoder: Decoder },
  options: DraftHeadOptions = {},
): DisposableDrafter {
  const { decoder } = model;
  const { config } = decoder;
  if (decoder.parts.predictions.length === 0)
    throw mismatch(
      'ERR_UNSUPPORTED',
      'mtp',
      `a model of ${config.family} without layers that predict further ahead`,
      'one with them',
      { hint: 'drafters.ngram() and drafters.model() fit any model' },
    );
  const head: PredictionHead = {
    cache: cacheWidth(config),
    forward({ hidden, tokens, positions, attend, rows }, compute) {
      const out = decoder.predict(0, { hidden, tokens, positions, attend: () => attend }, compute);
      // logits of the rows that are asked for, not of all
      return { hidden: out.hidden, logits: decoder.logits(takeRows(out.hidden, rows), compute) };
    },
  };
  return draftHead(model, head, options);
}

class HeadDraft implements Draft {
  readonly #sequence: KvSequence;

  constructor(readonly runner: HeadRunner) {
    this.#sequence = new KvSequence(runner.cache);
  }

  async propose({ tokens, hidden, sampling, most }: DraftContext): Promise<readonly number[]> {
    const sequence = this.#sequence;
    const { pool } = this.runner.cache;
    // state i stands behind token i; token i + 1 was chosen there
    const states = hidden ?? [];
    const known = states.length;
    const guesses: number[] = [];
    if (sequence.blocksFor(known - sequence.length + most) > pool.free) return guesses;
    let own = sampling.fork();
    await own.pending;
    let next = await this.runner.run(
      sequence,
      states.slice(sequence.length),
      tokens.slice(sequence.length + 1),
      own,
    );
    while (next.token >= 0 && guesses.push(next.token) < most) {
      own = own.fork();
      own.take(next);
      await own.pending;
      next = await this.runner.run(sequence, [next.hidden], [next.token], own);
    }
    sequence.truncate(known);
    return guesses;
  }

  async close(): Promise<void> {
    this.#sequence.release();
  }
}

interface Guess {
  readonly token: number;
  readonly hidden: Float32Array;
}

/** Runs the head for one text at a time. */
class HeadRunner {
  readonly cache: KvCache;
  readonly #programs = new Map<string, Promise<StepProgram>>();
  readonly #chains = new ChainBatch();
  #queue: Promise<unknown> = Promise.resolve();
  #disposed = false;

  constructor(
    readonly engine: StepEngine,
    readonly head: PredictionHead,
    cacheTokens: number,
  ) {
    const { device, cache } = engine;
    this.cache = new KvCache(device, { layers: [head.cache], tokens: cacheTokens, type: cache.type });
  }

  /** Feeds states and the tokens behind them, and guesses what follows the last one. */
  run(
    sequence: KvSequence,
    states: readonly Float32Array[],
    tokens: readonly number[],
    sampling: Sampling,
  ): Promise<Guess> {
    const turn = this.#queue.then(async () => {
      for (let at = 0; ; at += MAX_CHUNK) {
        const end = at + MAX_CHUNK;
        const guess = await this.#step(sequence, states.slice(at, end), tokens.slice(at, end), sampling);
        if (end >= states.length) return guess;
      }
    });
    this.#queue = turn.catch(() => undefined);
    return turn;
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#queue;
    for (const program of this.#programs.values()) (await program).dispose();
    this.cache.dispose();
  }

  async #step(
    sequence: KvSequence,
    states: readonly Float32Array[],
    fed: readonly number[],
    sampling: Sampling,
  ): Promise<Guess> {
    if (this.#disposed) throw new DisposedError('drafter');
    const { addon } = this.engine.device;
    const { dModel } = this.engine.model;
    const chains = this.#chains;
    chains.clear();
    sampling.write(chains);
    const n = paddedTokens(fed.length);
    const program = await this.#program(n, chainCapacity(chains.data.length));
    const [tokens, positions, slots, offsets, lengths, table, rows] = program.arrays as [
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
      Int32Array,
    ];
    const start = sequence.length;
    tokens.fill(0).set(fed);
    slots.fill(-1).set(sequence.extend(fed));
    sequence.commit();
    for (let i = 0; i < fed.length; i++) positions[i] = start + i;
    offsets[1] = fed.length;
    lengths[0] = sequence.length;
    table.set(sequence.blocks);
    rows[0] = fed.length - 1;
    const hidden = new Float32Array(fed.length * dModel);
    for (const [i, state] of states.entries()) hidden.set(state, i * dModel);
    program.fill(new Int32Array(hidden.buffer), chains.rows, chains.data);
    const outputs = await program.run();
    const [token, state] = [new Int32Array(1), new Float32Array(dModel)];
    addon.readBuffer(outputs[0] as NativeBuffer, token);
    addon.readBuffer(outputs[1] as NativeBuffer, state);
    for (const buffer of outputs) addon.disposeBuffer(buffer);
    return { token: token[0] as number, hidden: state };
  }

  #program(n: number, words: number): Promise<StepProgram> {
    const key = `${n} ${words}`;
    let program = this.#programs.get(key);
    if (!program) {
      program = this.#build(n, words);
      this.#programs.set(key, program);
    }
    return program;
  }

  #build(n: number, words: number): Promise<StepProgram> {
    const { device, compute, contextLength, model } = this.engine;
    const i32 = (...shape: number[]): Tensor => Tensor.placeholder('i32', shape);
    const [tokens, positions, slots, offsets, lengths, rows] = [
      i32(n),
      i32(n),
      i32(n),
      i32(2),
      i32(1),
      i32(1),
    ];
    const blockTable = i32(1, Math.ceil(contextLength / KV_BLOCK));
    const hidden = Tensor.placeholder('f32', [n, model.dModel]);
    const chains = [i32(1, CHAIN_ROW_WORDS), i32(words)] as const;
    const attend: Attend = (q, k, v, options) => {
      const keys = {
        ...this.cache.write(0, k, v, slots),
        lengths,
        blockTable,
      };
      return pagedAttention(q, keys, offsets, options);
    };
    const out = this.head.forward({ hidden, tokens, positions, attend, rows }, compute);
    const choice = sample({ logits: out.logits, rows: chains[0], data: chains[1] });
    const outputs = [choice.tokens, takeRows(out.hidden, rows)];
    const inputs = [tokens, positions, slots, offsets, lengths, blockTable, rows];
    return StepProgram.build(device, inputs, outputs, [hidden, ...chains]);
  }
}
