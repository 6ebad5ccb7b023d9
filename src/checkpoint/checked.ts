import { type ErrorDetails, mismatch, type SwitchyardError } from '../core/errors.js';

/** Longest piece of file text (names, keys) that an error message repeats. */
const maxQuoted = 96;

/** A name out of a file, fit for an error message: control characters escaped, long ones cut. */
export function quoted(text: string): string {
  const short = text.length > maxQuoted ? `${text.slice(0, maxQuoted)}…` : text;
  return JSON.stringify(short);
}

/**
 * A place in a checkpoint file: what errors name and what every count, offset and size read from the file goes
 * through. All results are non-negative safe integers; anything else is ERR_FORMAT.
 */
export class Place {
  readonly file: string;
  readonly item: string;

  /** `item` says which part of the file: `tensor "x"`, `key "y"`; empty for the file as a whole. */
  constructor(file: string, item = '') {
    this.file = file;
    this.item = item;
  }

  /** The same file, another part of it. */
  at(item: string): Place {
    return new Place(this.file, item);
  }

  get where(): string {
    return this.item === '' ? this.file : `${this.file}: ${this.item}`;
  }

  /** The file contradicts its format (builds, does not throw). */
  format(got: string, expected: string, hint?: string): SwitchyardError {
    return mismatch('ERR_FORMAT', this.where, got, expected, hint === undefined ? undefined : { hint });
  }

  /** The file could not be read or written (builds, does not throw). */
  io(got: string, expected: string, details?: ErrorDetails): SwitchyardError {
    return mismatch('ERR_IO', this.where, got, expected, details);
  }

  /** The file is sound but holds something that is not built (builds, does not throw). */
  unsupported(got: string, expected: string, hint?: string): SwitchyardError {
    return mismatch('ERR_UNSUPPORTED', this.where, got, expected, hint === undefined ? undefined : { hint });
  }

  add(a: number, b: number, what: string): number {
    return this.count(a + b, `${what} ${a} + ${b}`);
  }

  multiply(a: number, b: number, what: string): number {
    return this.count(a * b, `${what} ${a} × ${b}`);
  }

  /** Product of all factors; 1 for none. A zero does not excuse an overflow of the factors before it. */
  product(factors: readonly number[], what: string): number {
    let result = 1;
    for (const factor of factors) result = this.multiply(result, factor, what);
    return result;
  }

  /** `value / divisor`, which must come out even. */
  divide(value: number, divisor: number, what: string): number {
    const result = value / divisor;
    if (!Number.isSafeInteger(result)) throw this.format(`${what} ${value}`, `a multiple of ${divisor}`);
    return result;
  }

  /** The first multiple of `alignment` that is not below `value`. */
  alignUp(value: number, alignment: number, what: string): number {
    const rest = value % alignment;
    return rest === 0 ? value : this.add(value, alignment - rest, what);
  }

  private count(value: number, what: string): number {
    if (!Number.isSafeInteger(value) || value < 0) throw this.format(what, 'a count below 2^53');
    return value;
  }
}
