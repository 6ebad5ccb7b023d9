import { ConfigReader } from '../read/config-reader.js';
import type { Limit } from '../read/limits.js';

/** Reads our own plain data: every key is there, and what may be absent is null. */
export class PlainReader extends ConfigReader {
  text(key: string): string {
    const value = this.raw(key);
    if (typeof value !== 'string' || value.length > 1000) throw this.fail(key, 'a text');
    return value;
  }

  flag(key: string): boolean {
    const value = this.raw(key);
    if (typeof value !== 'boolean') throw this.fail(key, 'true or false');
    return value;
  }

  /** A whole number from 1 on. */
  size(key: string, limit: Limit): number {
    return this.int(key, limit);
  }

  /** A whole number from 0 on. */
  count(key: string, limit: Limit): number {
    return this.int(key, limit, undefined, 0);
  }

  name<T extends string>(key: string, names: readonly T[]): T {
    return this.oneOf(key, Object.fromEntries(names.map((name) => [name, name])) as Record<string, T>, '');
  }

  /** What `read` makes of an object, or null where the key holds null. */
  maybe<T>(key: string, read: (part: PlainReader) => T): T | null {
    return this.raw(key) === undefined ? null : read(this.part(key));
  }

  part(key: string): PlainReader {
    const value = this.raw(key);
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.fail(key, 'an object');
    return new PlainReader(value as Record<string, unknown>, `${this.where}: ${key}`);
  }

  positives(key: string): number[] {
    const value = this.raw(key);
    if (!Array.isArray(value) || !value.every((v) => typeof v === 'number' && v > 0))
      throw this.fail(key, 'a list of positive numbers');
    return value as number[];
  }

  /** Numbers of layers, rising. */
  override layers(key: string): number[] {
    const value = this.raw(key);
    const rising = (v: unknown, i: number, all: unknown[]): boolean =>
      Number.isInteger(v) && (v as number) >= 0 && (i === 0 || (v as number) > (all[i - 1] as number));
    if (!Array.isArray(value) || !value.every(rising)) throw this.fail(key, 'rising numbers of layers');
    return value as number[];
  }

  /** A positive number, or null where the key holds null. */
  optional(key: string): number | null {
    return this.raw(key) === undefined ? null : this.positive(key);
  }
}
