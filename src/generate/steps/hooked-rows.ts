/** Rows whose scores pass through JavaScript on their way to a token, or that must know what the rows before have chosen. */
import type { Device } from '../../core/device.js';
import { CHAIN_ROW_WORDS, processLogits, sample, tokenLogprobs } from '../../core/ops/sampling.js';
import type { PackedTensors } from '../../core/packed-tensors.js';
import { BoundProgram } from '../../core/program/bound.js';
import { Tensor } from '../../core/tensor.js';
import { logSumExp } from '../log-sum-exp.js';
import { ChainBatch, chainCapacity } from '../samplers/chain-batch.js';
import type { Choice, Choosing } from './sampling.js';
import { type LikelyTensors, withLikely } from './top-tokens.js';

/** What a step has chosen, with the logits that it chose from and, if asked for, what chains make of their log-probabilities. */
interface Chosen {
  readonly results: Choice[];
  readonly logits: Float32Array | null;
  readonly scores: Float32Array | null;
}

type Named<K extends string> = { readonly [name in K]: Tensor };
/** Inputs and results of all programs; each has those that its work needs. */
type RowInputs = Named<'logits' | 'token' | 'chains' | 'data'>;
type RowResults = Named<'token' | 'chosen' | 'scores' | 'logprob'> & LikelyTensors;
type RowProgram = BoundProgram<RowInputs, RowResults>;

export class HookedRows {
  readonly #chains = new ChainBatch();
  readonly #programs = new Map<string, RowProgram>();

  constructor(
    readonly device: Device,
    readonly vocabSize: number,
  ) {}

  /**
   * Replaces the results of such rows, or the scores of those that ask for these: a search chooses by itself. What a
   * hook throws becomes the error of its row.
   */
  async choose(
    sampling: readonly Choosing[],
    { results, logits, scores }: Chosen,
    { top, scored }: { top: number; scored: readonly boolean[] },
  ): Promise<void> {
    const v = this.vocabSize;
    const failed = (error: unknown): Choice => ({ token: -1, logprob: 0, chosen: 0, error });
    for (const [i, one] of sampling.entries()) {
      if (!one.hooked || !logits) continue;
      const raw = logits.subarray(i * v, (i + 1) * v);
      try {
        one.learn?.(results.slice(0, i));
        if (scores && scored[i]) scores.set(await this.#scores(one, raw), i * v);
        else results[i] = await this.#row(one, raw, top);
      } catch (error) {
        results[i] = failed(error);
      }
    }
  }

  /** Log-probabilities as the chain leaves them. */
  async #scores(sampling: Choosing, logits: Float32Array): Promise<Float32Array> {
    const norm = logSumExp(logits);
    const before = await this.#hooks(
      sampling,
      logits.map((x) => x - norm),
    );
    return (await this.#chain('process', before, (batch) => sampling.write(batch))).floats.scores;
  }

  /** What the hooks, and the parts of the chain before them, make of scores. */
  async #hooks(sampling: Choosing, given: Float32Array): Promise<Float32Array> {
    let scores = given;
    for (const { write, hook } of sampling.hooks()) {
      const { floats } = await this.#chain('process', scores, write);
      scores = floats.scores.slice();
      await hook(scores);
    }
    return scores;
  }

  async #row(sampling: Choosing, logits: Float32Array, top: number): Promise<Choice> {
    const scores = await this.#hooks(sampling, logits);
    const { ints, floats } = await this.#chain('sample', scores, (batch) => sampling.write(batch));
    const choice = {
      token: ints.token[0] as number,
      logprob: floats.logprob[0] as number, // of the logits themselves, where no hook has changed them
      chosen: floats.chosen[0] as number,
    };
    if (choice.token < 0 || (scores === logits && top < 0)) return choice;
    const likely = await this.#program('likely', Math.max(0, top));
    likely.inputs.floats.logits.set(logits);
    likely.inputs.ints.token[0] = choice.token;
    await likely.run();
    const full =
      scores === logits ? choice : { ...choice, logprob: likely.results.floats.logprob[0] as number };
    return top < 0 ? full : withLikely(full, likely.results, top, 0);
  }

  /** What one row's chain makes of scores. */
  async #chain(
    what: 'process' | 'sample',
    scores: Float32Array,
    write: (batch: ChainBatch) => void,
  ): Promise<PackedTensors<RowResults>> {
    this.#chains.clear();
    write(this.#chains);
    const program = await this.#program(what, chainCapacity(this.#chains.words));
    program.inputs.floats.logits.set(scores);
    await program.run({ spare: this.#chains.copyTo(program.inputs.ints) });
    return program.results;
  }

  /** @param size words of the data, or likeliest tokens */
  async #program(what: 'process' | 'sample' | 'likely', size: number): Promise<RowProgram> {
    const key = `${what} ${size}`;
    let program = this.#programs.get(key);
    if (!program) {
      program = (await this.#build(what, size)) as RowProgram;
      this.#programs.set(key, program);
    }
    return program;
  }

  async #build(what: 'process' | 'sample' | 'likely', size: number): Promise<unknown> {
    const logits = Tensor.placeholder('f32', [1, this.vocabSize]);
    if (what === 'likely') {
      const token = Tensor.placeholder('i32', [1]);
      const { logprobs, ...likely } = tokenLogprobs(logits, token, { n: size });
      return BoundProgram.build(this.device, { logits, token }, { logprob: logprobs, ...likely });
    }
    const chains = Tensor.placeholder('i32', [1, CHAIN_ROW_WORDS]);
    const data = Tensor.placeholder('i32', [size]);
    const row = { logits, rows: chains, data };
    const inputs = { logits, chains, data };
    if (what === 'process') return BoundProgram.build(this.device, inputs, { scores: processLogits(row) });
    const { tokens, chosen, logprobs } = sample(row);
    return BoundProgram.build(this.device, inputs, { token: tokens, chosen, logprob: logprobs });
  }

  dispose(): void {
    for (const program of this.#programs.values()) program.dispose();
    this.#programs.clear();
  }
}
