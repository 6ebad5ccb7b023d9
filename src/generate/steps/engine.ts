/** Runs steps of a decoder over a paged cache: prompts, chunks of prompts and single tokens, of one sequence or many. */
import type { NativeAbort, NativeBuffer } from '../../core/addon.js';
import type { Device } from '../../core/device.js';
import { DisposedError } from '../../core/errors.js';
import type { ComputeMode, KvType } from '../../core/format.js';
import { kvCopy } from '../../core/ops/kv-copy.js';
import { type NamedTensors, PackedTensors } from '../../core/packed-tensors.js';
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
  readStep,
  type StepBase,
  type StepForm,
  type StepOutput,
  type StepPrograms,
  sameForm,
} from './step-form.js';
import { choicesOfStep, contents, fillStep, MAX_CHUNK, type StepRow, writeChains } from './step-inputs.js';
import type { StepModel } from './step-model.js';
import { paddedTop } from './top-tokens.js';

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

/** A step that was begun: what it gave, where it took microseconds and has ended; else a promise of it. */
export interface BegunStep {
  readonly output: StepOutput | Promise<StepOutput>;
}

export class StepEngine implements StepBase {
  readonly cache: KvCache;
  /** What steps attend over besides, where the model has an encoder. */
  readonly memory: SourceMemory | null;
  /** Which experts have a place on the GPU; null: all, or there is none. */
  readonly experts: ExpertCache | null;
  readonly carried: readonly [NativeBuffer, NativeBuffer] | null;
  /** The one used last stands first. */
  readonly #programs: { readonly form: StepForm; readonly programs: StepPrograms }[] = [];
  readonly #copies = new Map<number, BoundProgram<{ pairs: Tensor }>>();
  readonly #chains = new ChainBatch();
  readonly #hooked: HookedRows;
  readonly #choices: PackedTensors<NamedTensors> | null;
  readonly #steps = new InTurn();
  /** Whose turn it is of two programs and of the memory for choices, and the steps that have not ended. */
  #turn: 0 | 1 = 0;
  readonly #open: [Promise<unknown> | null, Promise<unknown> | null] = [null, null];
  #disposed = false;

  constructor(
    readonly device: Device,
    readonly model: StepModel,
    readonly compute: ComputeMode,
    readonly contextLength: number,
    cacheTokens: number,
    kvCache: KvType,
  ) {
    this.experts = model.splits.some((split) => split) ? new ExpertCache(model.splits) : null;
    // A GPU gives results back behind all that was begun; experts move, and twins compute anew, between steps.
    const waits = device.kind !== 'cpu' || this.experts !== null || device.env.validate;
    this.cache = new KvCache(device, { layers: model.cache, tokens: cacheTokens, type: kvCache });
    let choices: PackedTensors<NamedTensors> | null = null;
    try {
      choices = waits ? null : new PackedTensors(device, { one: choicesOfStep(), other: choicesOfStep() });
      this.memory =
        model.memory && new SourceMemory(device, model.memory, compute, contextLength, cacheTokens, kvCache);
    } catch (error) {
      this.cache.dispose();
      choices?.dispose();
      throw error;
    }
    this.#choices = choices;
    this.carried = choices && (choices.buffers as [NativeBuffer, NativeBuffer]);
    this.#hooked = new HookedRows(device, model.vocabSize);
  }

  /** Whether a step may be begun before the one before has ended. */
  get runsAhead(): boolean {
    return this.carried !== null;
  }

  newSequence(options: KvSequenceOptions = {}): KvSequence {
    return new KvSequence(this.cache, options);
  }

  /** Begins after all steps asked for before, two of which at most have not ended then. */
  begin(rows: readonly StepRow[], options: StepOptions = {}): Promise<BegunStep> {
    return this.#steps.run(() => this.#begin(rows, options));
  }

  /** The same to its end. */
  async step(rows: readonly StepRow[], options: StepOptions = {}): Promise<StepOutput> {
    return (await this.begin(rows, options)).output;
  }

  /** Builds the programs of usual steps, so that the first tokens need not wait for them. */
  async warm(): Promise<void> {
    const flags = { prefix: false, routing: false, logits: false, scores: false, hidden: false, top: -1 };
    const greedy = { sampled: 1, words: chainCapacity(0), ...flags };
    for (const tokens of this.memory ? [1] : [1, 32, MAX_CHUNK])
      await this.#steps.run(() => this.#formed({ tokens, rows: 1, ...greedy }));
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    await this.#steps.idle();
    await Promise.all(this.#open);
    for (const { programs } of this.#programs.splice(0))
      for (const program of new Set(programs)) program.dispose();
    this.#choices?.dispose();
    for (const program of this.#copies.values()) program.dispose();
    this.#copies.clear();
    this.#hooked.dispose();
    this.cache.dispose();
    await this.memory?.dispose();
  }

  async #begin(
    rows: readonly StepRow[],
    { abort, routing = false, logits = false, scores = false, hidden = false, top }: StepOptions,
  ): Promise<BegunStep> {
    const turn = this.#turn;
    const same = this.#open[this.carried ? turn : 1 - turn]; // which uses the same memory
    if (same) await same;
    if (this.#disposed) throw new DisposedError('model');
    const { real, sampling, scored, prefix } = contents(rows);
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
    const program = (await this.#formed(form))[turn];
    const { ints } = program.inputs;
    fillStep(ints, rows);
    const spare = chains.copyTo(ints);
    const copies = this.cache.takeCopies();
    if (copies.length > 0) await this.#copy(copies, abort);
    const { end } = await program.start({ abort, spare });
    this.#turn = turn === 0 ? 1 : 0;
    const read = (large: NativeBuffer[]): StepOutput => {
      for (const row of rows) if (!row.slots) row.sequence.commit();
      const { met } = program.results.ints;
      if (met) this.experts?.note(met, form.tokens, real, this.model.topK);
      return readStep(this, form, program, large, { real, sampled });
    };
    if (Array.isArray(end) && !hooked) return { output: read(end) };
    const finish = async (): Promise<StepOutput> => {
      const output = read(await end);
      if (hooked) await this.#hooked.choose(sampling, output, { top: form.top, scored });
      return output;
    };
    const output = finish();
    const closed = (): void => {
      this.#open[turn] = null;
    };
    this.#open[turn] = output.then(closed, closed);
    return { output };
  }

  /** Called by one step at a time. */
  async #formed(form: StepForm): Promise<StepPrograms> {
    const known = this.#programs;
    const at = known.findIndex((other) => sameForm(other.form, form));
    const found = known[at] ?? { form, programs: await buildStep(this, form) };
    if (at > 0) known.splice(at, 1);
    if (at !== 0) known.unshift(found);
    return found.programs;
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
