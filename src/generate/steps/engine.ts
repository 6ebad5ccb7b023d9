/** Runs steps of a decoder over a paged cache: prompts, chunks of prompts and single tokens, of one sequence or many. */
import type { NativeAbort } from '../../core/addon.js';
import type { Device } from '../../core/device.js';
import { DisposedError } from '../../core/errors.js';
import type { ComputeMode, KvType } from '../../core/format.js';
import { kvCopy } from '../../core/ops/kv-copy.js';
import { BoundProgram } from '../../core/program/bound.js';
import { Tensor } from '../../core/tensor.js';
import { KvCache, keepAlive } from '../../nn/kv-cache.js';
import { type BlockCopy, KvSequence, type KvSequenceOptions } from '../../nn/kv-sequence.js';
import { ChainBatch, chainCapacity } from '../samplers/chain-batch.js';
import { ExpertCache } from './expert-cache.js';
import { HookedRows } from './hooked-rows.js';
import { InTurn } from './in-turn.js';
import { SourceMemory } from './memory.js';
import { paddedRows, paddedTokens } from './padding.js';
import {
  buildStep,
  type FormedProgram,
  readStep,
  type StepBase,
  type StepForm,
  type StepOutput,
  sameForm,
} from './step-form.js';
import { contents, fillStep, type StepRow, writeChains } from './step-inputs.js';
import type { StepModel } from './step-model.js';
import { paddedTop } from './top-tokens.js';

/** Tokens of one step at most: large enough for the matrix units, small enough that an abort is quick. */
export const MAX_CHUNK = 512;

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

export class StepEngine implements StepBase {
  readonly cache: KvCache;
  /** What steps attend over besides, where the model has an encoder. */
  readonly memory: SourceMemory | null;
  /** Which experts have a place on the GPU; null: all, or there is none. */
  readonly experts: ExpertCache | null;
  /** The one used last stands first. */
  readonly #programs: { readonly form: StepForm; readonly program: FormedProgram }[] = [];
  readonly #copies = new Map<number, BoundProgram<{ pairs: Tensor }>>();
  readonly #chains = new ChainBatch();
  readonly #hooked: HookedRows;
  readonly #steps = new InTurn();
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
    try {
      this.memory =
        model.memory && new SourceMemory(device, model.memory, compute, contextLength, cacheTokens, kvCache);
    } catch (error) {
      this.cache.dispose();
      throw error;
    }
    this.experts = model.splits.some((split) => split) ? new ExpertCache(model.splits) : null;
    this.#hooked = new HookedRows(device, model.vocabSize);
  }

  newSequence(options: KvSequenceOptions = {}): KvSequence {
    return new KvSequence(this.cache, options);
  }

  /** Runs after all steps asked for before. */
  step(rows: readonly StepRow[], options: StepOptions = {}): Promise<StepOutput> {
    return this.#steps.run(() => this.#step(rows, options));
  }

  /** Builds the programs of usual steps, so that the first tokens need not wait for them. */
  async warm(): Promise<void> {
    const flags = { prefix: false, routing: false, logits: false, scores: false, hidden: false, top: -1 };
    const greedy = { sampled: 1, words: chainCapacity(0), ...flags };
    for (const tokens of this.memory ? [1] : [1, 32, MAX_CHUNK])
      await this.#steps.run(() => this.#program({ tokens, rows: 1, ...greedy }));
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#steps.idle();
    for (const { program } of this.#programs.splice(0)) program.dispose();
    for (const program of this.#copies.values()) program.dispose();
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
    const { real, sampling, prefix } = contents(rows);
    const sampled = sampling.length;
    const hooked = sampling.some((one) => one.hooked);
    const chains = this.#chains;
    writeChains(chains, sampling);
    const form = {
      tokens: paddedTokens(real),
      rows: paddedRows(rows.length),
      sampled: paddedRows(sampled),
      words: chainCapacity(chains.words),
      prefix,
      routing,
      logits: sampled > 0 && (logits || hooked),
      scores: sampled > 0 && scores,
      hidden,
      top: top === undefined || sampled === 0 ? -1 : paddedTop(top, this.model.vocabSize),
    };
    const program = await this.#program(form);
    const { ints } = program.inputs;
    fillStep(ints, rows);
    const spare = chains.copyTo(ints);
    const copies = this.cache.takeCopies();
    if (copies.length > 0) await this.#copy(copies, abort);
    const large = await program.run({ abort, spare });
    for (const row of rows) if (!row.slots) row.sequence.commit();
    const { met } = program.results.ints;
    if (met) this.experts?.note(met, form.tokens, real, this.model.topK);
    const output = readStep(this, form, program, large, { real, sampled });
    if (hooked) await this.#hooked.choose(sampling, output, form.top);
    return output;
  }

  /** Called by one step at a time. */
  async #program(form: StepForm): Promise<FormedProgram> {
    const programs = this.#programs;
    const at = programs.findIndex((other) => sameForm(other.form, form));
    const found = programs[at] ?? { form, program: await buildStep(this, form) };
    if (at > 0) programs.splice(at, 1);
    if (at !== 0) programs.unshift(found);
    return found.program;
  }

  /** Copies blocks in all layers. */
  async #copy(copies: readonly BlockCopy[], abort: NativeAbort | undefined): Promise<void> {
    const n = paddedRows(copies.length);
    let program = this.#copies.get(n);
    if (!program) {
      const pairs = Tensor.placeholder('i32', [n, 2]);
      const caches = this.cache.tensors.filter((cache) => cache.size > 0);
      const copied = caches.map((cache) => kvCopy(cache, pairs));
      program = await BoundProgram.build(this.device, { pairs }, {}, [keepAlive(copied)]);
      this.#copies.set(n, program);
    }
    const { pairs } = program.inputs.ints;
    pairs.fill(-1);
    for (const [i, { from, to }] of copies.entries()) pairs.set([from, to], 2 * i);
    for (const buffer of await program.run({ abort })) this.device.addon.disposeBuffer(buffer);
  }
}
