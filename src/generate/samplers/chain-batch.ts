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

/** Fewer words than this are copied faster one by one. */
const FEW = 64;

function copy(to: Int32Array, from: Int32Array, words: number): void {
  if (words > FEW) to.set(from.subarray(0, words));
  else for (let i = 0; i < words; i++) to[i] = from[i] as number;
}

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
  /** Where the open row's history and records begin, and where the open record's length goes. */
  #history = 0;
  #chain = 0;
  #record = 0;

  /** i32 [rows, 6]. */
  get rows(): Int32Array {
    return this.#rows.subarray(0, this.#count * CHAIN_ROW_WORDS);
  }

  get data(): Int32Array {
    return this.#data.subarray(0, this.#length);
  }

  /** Words of the data. */
  get words(): number {
    return this.#length;
  }

  /** Copies rows and data to the inputs of a program. @returns words of the data that are spare */
  copyTo({ chains, data }: { readonly chains: Int32Array; readonly data: Int32Array }): number {
    copy(chains, this.#rows, this.#count * CHAIN_ROW_WORDS);
    copy(data, this.#data, this.#length);
    return data.length - this.#length;
  }

  clear(): void {
    this.#length = 0;
    this.#count = 0;
  }

  /** Begins a row with its history, the first `length` of `tokens`; its records follow. */
  open(tokens: Int32Array, length: number): void {
    this.#room(length);
    if (length > 0) this.#data.set(tokens.subarray(0, length), this.#length);
    this.#history = this.#length;
    this.#chain = this.#length += length;
  }

  /** Ends it. */
  close(seed: number, step: number): void {
    let at = this.#count++ * CHAIN_ROW_WORDS;
    if (at + CHAIN_ROW_WORDS > this.#rows.length) {
      const larger = new Int32Array(2 * this.#rows.length);
      larger.set(this.#rows);
      this.#rows = larger;
    }
    const rows = this.#rows;
    rows[at++] = this.#chain;
    rows[at++] = this.#length - this.#chain;
    rows[at++] = this.#history;
    rows[at++] = this.#chain - this.#history;
    rows[at++] = seed;
    rows[at] = step;
  }

  /** Adds a row; `write` writes its records. */
  row(
    { history, seed, step }: { history: Int32Array; seed: number; step: number },
    write: (chain: ChainBatch) => void,
  ): void {
    this.open(history, history.length);
    write(this);
    this.close(seed, step);
  }

  /** Adds a row whose token nobody wants: the cheapest choice. */
  padding(): void {
    this.open(NO_TOKENS, 0);
    this.begin('greedy').end();
    this.close(0, 0);
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
