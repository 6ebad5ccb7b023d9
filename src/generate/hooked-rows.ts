/** Rows whose scores pass through JavaScript on their way to a token. */
import type { NativeBuffer } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { CHAIN_ROW_WORDS, processLogits, sample, tokenLogprobs } from '../core/ops/sampling.js';
import { Executable } from '../core/program/compile.js';
import { Tensor } from '../core/tensor.js';
import { ChainBatch, chainCapacity } from './samplers/chain-batch.js';
import type { Choice, Sampling } from './sampling.js';
import { readTop } from './top-tokens.js';

/** What a step has chosen, with the logits that it chose from. */
interface Chosen {
  readonly results: Choice[];
  readonly logits: Float32Array | null;
}

interface Program {
  readonly executable: Executable;
  readonly buffers: readonly NativeBuffer[];
}

export class HookedRows {
  readonly #chains = new ChainBatch();
  readonly #programs = new Map<string, Program>();

  constructor(
    readonly device: Device,
    readonly vocabSize: number,
  ) {}

  /** Replaces the results of rows that have hooks. What a hook throws becomes the error of its row. */
  async choose(sampling: readonly Sampling[], { results, logits }: Chosen, top: number): Promise<void> {
    for (const [i, one] of sampling.entries()) {
      if (!one.hooked || !logits) continue;
      const raw = logits.subarray(i * this.vocabSize, (i + 1) * this.vocabSize);
      results[i] = await this.#row(one, raw, top).catch((error) => ({
        token: -1,
        logprob: 0,
        chosen: 0,
        error,
      }));
    }
  }

  async #row(sampling: Sampling, logits: Float32Array, top: number): Promise<Choice> {
    let scores = logits;
    for (const { write, hook } of sampling.hooks()) {
      scores = await this.#process(scores, write);
      await hook(scores);
    }
    const program = this.#chainProgram('sample', scores, (batch) => sampling.write(batch));
    const [choice] = (await this.#run(program, (buffers) => [
      { token: this.#int(buffers[0]), logprob: 0, chosen: this.#float(buffers[2]) },
    ])) as [Choice];
    if (choice.token < 0) return choice;
    const likely = this.#program('likely', Math.max(0, top));
    this.#fill(likely, [logits, Int32Array.of(choice.token)]);
    const [full] = (await this.#run(likely, (buffers) => {
      const results = [{ ...choice, logprob: this.#float(buffers[0]) }];
      if (top >= 0) readTop(this.device.addon, buffers, results, top);
      return results;
    })) as [Choice];
    return full;
  }

  async #process(scores: Float32Array, write: (batch: ChainBatch) => void): Promise<Float32Array> {
    const processed = new Float32Array(this.vocabSize);
    const program = this.#chainProgram('process', scores, write);
    await this.#run(program, ([buffer]) => this.device.addon.readBuffer(buffer as NativeBuffer, processed));
    return processed;
  }

  #int(buffer: NativeBuffer | undefined): number {
    const value = new Int32Array(1);
    this.device.addon.readBuffer(buffer as NativeBuffer, value);
    return value[0] as number;
  }

  #float(buffer: NativeBuffer | undefined): number {
    const value = new Float32Array(1);
    this.device.addon.readBuffer(buffer as NativeBuffer, value);
    return value[0] as number;
  }

  /** A program over one row's chain, filled. */
  #chainProgram(
    what: 'process' | 'sample',
    scores: Float32Array,
    write: (batch: ChainBatch) => void,
  ): Program {
    this.#chains.clear();
    write(this.#chains);
    const { rows, data } = this.#chains;
    const program = this.#program(what, chainCapacity(data.length));
    this.#fill(program, [scores, rows, data]);
    return program;
  }

  #fill({ buffers }: Program, arrays: readonly (Float32Array | Int32Array)[]): void {
    arrays.forEach((array, i) => {
      if (array.length > 0) this.device.addon.writeBuffer(buffers[i] as NativeBuffer, array);
    });
  }

  async #run<T>({ executable, buffers }: Program, read: (outputs: NativeBuffer[]) => T): Promise<T> {
    const outputs = await executable.run(buffers);
    const result = read(outputs);
    for (const buffer of outputs) this.device.addon.disposeBuffer(buffer);
    return result;
  }

  /** @param size words of the data, or likeliest tokens */
  #program(what: 'process' | 'sample' | 'likely', size: number): Program {
    const key = `${what} ${size}`;
    let program = this.#programs.get(key);
    if (!program) {
      const logits = Tensor.placeholder('f32', [1, this.vocabSize]);
      const rest =
        what === 'likely'
          ? [Tensor.placeholder('i32', [1])]
          : [Tensor.placeholder('i32', [1, CHAIN_ROW_WORDS]), Tensor.placeholder('i32', [size])];
      const [rows, data] = rest as [Tensor, Tensor];
      const outputs =
        what === 'likely'
          ? Object.values(tokenLogprobs(logits, rows, { n: size }))
          : what === 'process'
            ? [processLogits({ logits, rows, data })]
            : Object.values(sample({ logits, rows, data }));
      const inputs = [logits, ...rest];
      program = {
        executable: Executable.build(this.device, inputs, outputs),
        buffers: inputs.map((t) => this.device.addon.createBuffer(t.bytes)),
      };
      this.#programs.set(key, program);
    }
    return program;
  }

  dispose(): void {
    for (const { executable, buffers } of this.#programs.values()) {
      executable.dispose();
      for (const b of buffers) this.device.addon.disposeBuffer(b);
    }
    this.#programs.clear();
  }
}
