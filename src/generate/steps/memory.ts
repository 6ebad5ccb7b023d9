/** What encoders gave, kept for decoding: keys and values of each layer of the decoder, computed once for each text. */
import type { Device } from '../../core/device.js';
import { DisposedError, mismatch } from '../../core/errors.js';
import type { ComputeMode, KvType } from '../../core/format.js';
import { BoundProgram } from '../../core/program/bound.js';
import type { Tensor } from '../../core/tensor.js';
import { KV_BLOCK } from '../../nn/kv-blocks.js';
import { KvCache, keepAlive } from '../../nn/kv-cache.js';
import { KvSequence } from '../../nn/kv-sequence.js';
import { paddedRows, paddedTokens } from './padding.js';
import { type Fed, fedInputs, fillFed } from './step-inputs.js';
import type { MemoryModel } from './step-model.js';

/** Tokens of several texts that are encoded together at most. */
const MOST_TOGETHER = 512;

/** One text's place in the cache, for all that decode over it. */
export class Memory {
  #holders = 1;

  constructor(
    readonly sequence: KvSequence,
    readonly freed: () => void,
  ) {}

  hold(): Memory {
    this.#holders++;
    return this;
  }

  /** The last one who held it frees it. */
  release(): void {
    if (--this.#holders > 0) return;
    this.sequence.release();
    this.freed();
  }
}

interface Request {
  readonly source: readonly number[];
  resolve(memory: Memory): void;
  reject(error: unknown): void;
}

/** Encodes texts in the order in which they are asked for; those that the cache has no room for wait until others are freed. */
export class SourceMemory {
  readonly cache: KvCache;
  readonly #programs = new Map<string, BoundProgram<Fed<Tensor>>>();
  readonly #requests: Request[] = [];
  #running: Promise<void> | null = null;
  #disposed = false;

  /** @param longest tokens of a text at most */
  constructor(
    readonly device: Device,
    readonly model: MemoryModel,
    readonly compute: ComputeMode,
    readonly longest: number,
    tokens: number,
    type: KvType,
  ) {
    this.cache = new KvCache(device, { layers: model.cache, tokens, type });
  }

  /** @throws SwitchyardError ERR_CONTEXT_LENGTH for a text that can never be held */
  remember(source: readonly number[]): Promise<Memory> {
    const most = Math.min(this.longest, this.cache.blocks * KV_BLOCK);
    if (source.length > most)
      return Promise.reject(
        mismatch('ERR_CONTEXT_LENGTH', 'encode', `a text of ${source.length} tokens`, `at most ${most}`, {
          hint: 'load the model with a larger contextLength and cacheTokens',
        }),
      );
    if (source.length === 0)
      return Promise.reject(mismatch('ERR_OPTION', 'encode', 'a text without tokens', 'at least one'));
    return new Promise((resolve, reject) => {
      this.#requests.push({ source, resolve, reject });
      this.#wake();
    });
  }

  async dispose(): Promise<void> {
    this.#disposed = true;
    this.#wake();
    await this.#running;
    for (const program of this.#programs.values()) program.dispose();
    this.#programs.clear();
    this.cache.dispose();
  }

  #wake(): void {
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    await Promise.resolve(); // texts that are asked for together are encoded together
    for (;;) {
      if (this.#disposed)
        for (const request of this.#requests.splice(0)) request.reject(new DisposedError('model'));
      const next = this.#next();
      if (next.length === 0) {
        this.#running = null;
        return;
      }
      const sequences = next.map(() => new KvSequence(this.cache));
      try {
        await this.#write(next, sequences);
        for (const [i, sequence] of sequences.entries())
          next[i]?.resolve(new Memory(sequence, () => this.#wake()));
      } catch (error) {
        for (const sequence of sequences) sequence.release();
        for (const request of next) request.reject(error);
      }
    }
  }

  /** The first requests that there is room for. */
  #next(): Request[] {
    let [tokens, blocks, count] = [0, 0, 0];
    for (const { source } of this.#requests) {
      tokens += source.length;
      blocks += Math.ceil(source.length / KV_BLOCK);
      if (blocks > this.cache.freeBlocks) break;
      if (count > 0 && (!this.model.ragged || tokens > MOST_TOGETHER)) break;
      count++;
    }
    return this.#requests.splice(0, count);
  }

  async #write(requests: readonly Request[], sequences: readonly KvSequence[]): Promise<void> {
    const count = requests.reduce((n, { source }) => n + source.length, 0);
    const padded = this.model.exact ? count : paddedTokens(count);
    const program = await this.#program(padded, paddedRows(requests.length));
    const rows = requests.map(({ source }, i) => ({
      sequence: sequences[i] as KvSequence,
      tokens: source,
    }));
    fillFed(program.inputs.ints, rows);
    for (const buffer of await program.run()) this.device.addon.disposeBuffer(buffer);
    for (const sequence of sequences) sequence.commit();
  }

  async #program(n: number, s: number): Promise<BoundProgram<Fed<Tensor>>> {
    const key = `${n} ${s}`;
    let program = this.#programs.get(key);
    if (program) return program;
    const inputs = fedInputs(n, s);
    const layers = this.model.encode(inputs, this.compute);
    const caches = layers
      .flatMap(({ k, v }, i) => Object.values(this.cache.write(i, k, v, inputs.slots)))
      .filter((cache) => typeof cache !== 'number');
    program = await BoundProgram.build(this.device, inputs, {}, [keepAlive(caches)]);
    this.#programs.set(key, program);
    return program;
  }
}
