/** Rows whose scores pass through JavaScript on their way to a token. */
import type { NativeBuffer } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { CHAIN_ROW_WORDS, processLogits, sample, tokenLogprobs } from '../core/ops/sampling.js';
import { Executable } from '../core/program/compile.js';
import { Tensor } from '../core/tensor.js';
import { ChainBatch, chainCapacity } from './samplers/chain-batch.js';
import type { Choice, Sampling } from './sampling.js';

/** What a step has chosen, with the logits that it chose from. */
interface Chosen {
  readonly results: Choice[];
  readonly logits: Float32Array | null;
}

export class HookedRows {
  readonly #chains = new ChainBatch();
  readonly #programs = new Map<string, { executable: Executable; buffers: NativeBuffer[] }>();

  constructor(
    readonly device: Device,
    readonly vocabSize: number,
  ) {}

  /** Replaces the results of rows that have hooks. What a hook throws becomes the error of its row. */
  async choose(sampling: readonly Sampling[], { results, logits }: Chosen): Promise<void> {
    for (const [i, one] of sampling.entries()) {
      if (!one.hooked || !logits) continue;
      const raw = logits.subarray(i * this.vocabSize, (i + 1) * this.vocabSize);
      results[i] = await this.#row(one, raw).catch((error) => ({ token: -1, logprob: 0, chosen: 0, error }));
    }
  }

  async #row(sampling: Sampling, logits: Float32Array): Promise<Choice> {
    let scores = logits;
    for (const { write, hook } of sampling.hooks()) {
      scores = await this.#process(scores, write);
      await hook(scores);
    }
    const [tokens, , chosen] = await this.#run('sample', scores, (batch) => sampling.write(batch));
    const [token] = tokens as Int32Array;
    const [probability] = chosen as Float32Array;
    const choice = { token: token as number, logprob: 0, chosen: probability as number };
    if (choice.token < 0) return choice;
    const [logprobs] = await this.#run('logprob', logits, null, choice.token);
    return { ...choice, logprob: (logprobs as Float32Array)[0] as number };
  }

  async #process(scores: Float32Array, write: (batch: ChainBatch) => void): Promise<Float32Array> {
    const [processed] = await this.#run('process', scores, write);
    return processed as Float32Array;
  }

  async #run(
    what: 'process' | 'sample' | 'logprob',
    scores: Float32Array,
    write: ((batch: ChainBatch) => void) | null,
    target = -1,
  ): Promise<(Int32Array | Float32Array)[]> {
    const { addon } = this.device;
    this.#chains.clear();
    write?.(this.#chains);
    const { rows, data } = this.#chains;
    const program = this.#program(what, chainCapacity(data.length));
    const inputs = what === 'logprob' ? [scores, Int32Array.of(target)] : [scores, rows, data];
    inputs.forEach((array, i) => {
      if (array.length > 0) addon.writeBuffer(program.buffers[i] as NativeBuffer, array);
    });
    const outputs = await program.executable.run(program.buffers);
    return outputs.map((buffer, i) => {
      const whole = what === 'sample' && i === 0;
      const values = whole ? new Int32Array(1) : new Float32Array(what === 'process' ? this.vocabSize : 1);
      addon.readBuffer(buffer, values);
      addon.disposeBuffer(buffer);
      return values;
    });
  }

  #program(what: string, words: number): { executable: Executable; buffers: NativeBuffer[] } {
    const key = `${what} ${words}`;
    let program = this.#programs.get(key);
    if (!program) {
      const logits = Tensor.placeholder('f32', [1, this.vocabSize]);
      const rows = Tensor.placeholder('i32', [1, CHAIN_ROW_WORDS]);
      const data = Tensor.placeholder('i32', [words]);
      const target = Tensor.placeholder('i32', [1]);
      const inputs = what === 'logprob' ? [logits, target] : [logits, rows, data];
      const chains = { logits, rows, data };
      const outputs =
        what === 'logprob'
          ? [tokenLogprobs(logits, target).logprobs]
          : what === 'process'
            ? [processLogits(chains)]
            : Object.values(sample(chains));
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
