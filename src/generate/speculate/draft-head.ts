/**
 * Drafts by a head that the model was trained with: it reads the state behind a token and the token that was chosen there, and
 * says what follows (multi-token prediction, DeepSeek-AI 2024, DeepSeek-V3, section 2.2; EAGLE, Li et al. 2024). Its one layer
 * attends over its own cache. Further guesses take its own state in place of the model's.
 */
import { checkOptions, checkWhole, DisposedError, mismatch } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { takeRows } from '../../core/ops/indexing.js';
import { sample } from '../../core/ops/sampling.js';
import { BoundProgram } from '../../core/program/bound.js';
import { Tensor } from '../../core/tensor.js';
import { cacheWidth } from '../../models/decoder/config.js';
import type { Decoder } from '../../models/decoder/decoder.js';
import type { Attend } from '../../nn/attention.js';
import { KV_BLOCK } from '../../nn/kv-blocks.js';
import { KvCache, type KvWidths } from '../../nn/kv-cache.js';
import { KvSequence } from '../../nn/kv-sequence.js';
import { ChainBatch, chainCapacity } from '../samplers/chain-batch.js';
import type { StepEngine } from '../steps/engine.js';
import { InTurn } from '../steps/in-turn.js';
import { paddedTokens } from '../steps/padding.js';
import type { Sampling } from '../steps/sampling.js';
import {
  attendOver,
  fillStep,
  MAX_CHUNK,
  type StepValues,
  stepInputs,
  writeChains,
} from '../steps/step-inputs.js';
import { checkDrafter, type Draft, type DraftContext, type Drafter } from './speculative.js';

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

type HeadProgram = BoundProgram<StepValues<Tensor> & { hidden: Tensor }, { token: Tensor; hidden: Tensor }>;

/** Runs the head for one text at a time. */
class HeadRunner {
  readonly cache: KvCache;
  readonly #programs = new Map<string, Promise<HeadProgram>>();
  readonly #chains = new ChainBatch();
  readonly #guesses = new InTurn();
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
    return this.#guesses.run(async () => {
      for (let at = 0; ; at += MAX_CHUNK) {
        const end = at + MAX_CHUNK;
        const guess = await this.#step(sequence, states.slice(at, end), tokens.slice(at, end), sampling);
        if (end >= states.length) return guess;
      }
    });
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#guesses.idle();
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
    const { dModel } = this.engine.model;
    writeChains(this.#chains, [sampling]);
    const program = await this.#program(paddedTokens(fed.length), chainCapacity(this.#chains.words));
    const { ints, floats } = program.inputs;
    fillStep(ints, [{ sequence, tokens: fed, sampling }]);
    sequence.commit();
    for (const [i, state] of states.entries()) floats.hidden.set(state, i * dModel);
    await program.run({ spare: this.#chains.copyTo(ints) });
    const { results } = program;
    return { token: results.ints.token[0] as number, hidden: results.floats.hidden.slice() };
  }

  #program(n: number, words: number): Promise<HeadProgram> {
    const key = `${n} ${words}`;
    let program = this.#programs.get(key);
    if (!program) {
      program = this.#build(n, words);
      this.#programs.set(key, program);
    }
    return program;
  }

  #build(tokens: number, words: number): Promise<HeadProgram> {
    const { device, compute, contextLength, model } = this.engine;
    const step = stepInputs({ tokens, rows: 1, sampled: 1, words, contextLength });
    const { positions, picked: rows, chains, data } = step;
    const inputs = { hidden: Tensor.placeholder('f32', [tokens, model.dModel]), ...step };
    const attend = attendOver(this.cache, 0, step);
    const out = this.head.forward({ ...inputs, positions, attend, rows }, compute);
    const choice = sample({ logits: out.logits, rows: chains, data });
    return BoundProgram.build(device, inputs, {
      token: choice.tokens,
      hidden: takeRows(out.hidden, rows),
    });
  }
}
