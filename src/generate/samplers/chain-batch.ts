/** Chains and histories of the rows of one step, in the words that the native op reads (native/cpu/samplers/record.h). */
import { CHAIN_ROW_WORDS } from '../../core/ops/sampling.js';
import { CHAIN_KINDS, type ChainKind } from './kinds.js';

const LEAST_CAPACITY = 8192;
const GROWTH = 16;

/** Words that the data input of a program has: few sizes, as each is a program of its own. */
export function chainCapacity(words: number): number {
  let capacity = LEAST_CAPACITY;
  while (capacity < words) capacity *= GROWTH;
  return capacity;
}

const NO_TOKENS = new Int32Array(0);

const float = new Float64Array(1);
const floatWords = new Int32Array(float.buffer);
const single = new Float32Array(1);
const singleWord = new Int32Array(single.buffer);

/** The bits of a float32 as a word. */
export function wordOf(value: number): number {
  single[0] = value;
  return singleWord[0] as number;
}

export class ChainBatch {
  #data = new Int32Array(1024);
  #length = 0;
  #rows = new Int32Array(8 * CHAIN_ROW_WORDS);
  #count = 0;
  /** Where the open record's length goes. */
  #record = 0;

  /** i32 [rows, 6]. */
  get rows(): Int32Array {
    return this.#rows.subarray(0, this.#count * CHAIN_ROW_WORDS);
  }

  get data(): Int32Array {
    return this.#data.subarray(0, this.#length);
  }

  /** Copies rows and data to the inputs of a program. @returns words of the data that are spare */
  copyTo({ chains, data }: { readonly chains: Int32Array; readonly data: Int32Array }): number {
    chains.set(this.rows);
    data.set(this.data);
    return data.length - this.#length;
  }

  clear(): void {
    this.#length = 0;
    this.#count = 0;
  }

  /** Adds a row; `write` writes its records. */
  row(
    { history, seed, step }: { history: Int32Array; seed: number; step: number },
    write: (chain: ChainBatch) => void,
  ): void {
    const historyOffset = this.#length;
    this.#room(history.length);
    this.#data.set(history, this.#length);
    this.#length += history.length;
    const chain = this.#length;
    write(this);
    const at = this.#count++ * CHAIN_ROW_WORDS;
    if (at + CHAIN_ROW_WORDS > this.#rows.length) {
      const larger = new Int32Array(2 * this.#rows.length);
      larger.set(this.#rows);
      this.#rows = larger;
    }
    this.#rows.set([chain, this.#length - chain, historyOffset, history.length, seed, step], at);
  }

  /** Adds a row whose token nobody wants: the cheapest choice. */
  padding(): void {
    this.row({ history: NO_TOKENS, seed: 0, step: 0 }, (chain) => chain.begin('greedy').end());
  }

  /** Opens a record; `end` closes it. */
  begin(kind: ChainKind): this {
    this.#room(2);
    this.#data[this.#length++] = CHAIN_KINDS[kind];
    this.#record = this.#length++;
    return this;
  }

  int(value: number): this {
    this.#room(1);
    this.#data[this.#length++] = value;
    return this;
  }

  number(value: number): this {
    this.#room(2);
    float[0] = value;
    this.#data[this.#length++] = floatWords[0] as number;
    this.#data[this.#length++] = floatWords[1] as number;
    return this;
  }

  list(words: ArrayLike<number>): this {
    this.#room(1 + words.length);
    this.#data[this.#length++] = words.length;
    this.#data.set(words, this.#length);
    this.#length += words.length;
    return this;
  }

  end(): void {
    this.#data[this.#record] = this.#length - this.#record - 1;
  }

  #room(words: number): void {
    if (this.#length + words <= this.#data.length) return;
    const larger = new Int32Array(Math.max(2 * this.#data.length, this.#length + words));
    larger.set(this.#data);
    this.#data = larger;
  }
}
