import { Place, quoted } from './checked.js';

/** Types of single values, in the file's order of numbers (9, the array, is left out). */
export type GgufScalarType =
  | 'u8'
  | 'i8'
  | 'u16'
  | 'i16'
  | 'u32'
  | 'i32'
  | 'f32'
  | 'bool'
  | 'string'
  | 'u64'
  | 'i64'
  | 'f64';

export type GgufNumbers =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | Float64Array
  | BigUint64Array
  | BigInt64Array;

/** A metadata value as it stands in the file. 64-bit integers are bigints; an array of bools holds 0 and 1. */
export type GgufValue =
  | { readonly type: GgufScalarType; readonly value: number | bigint | boolean | string }
  | {
      readonly type: 'array';
      readonly element: GgufScalarType;
      readonly value: readonly string[] | GgufNumbers;
    };

const integerTypes: ReadonlySet<string> = new Set(['u8', 'i8', 'u16', 'i16', 'u32', 'i32', 'u64', 'i64']);

function describe(value: GgufValue): string {
  if (value.type === 'array') return `an array of ${value.value.length} ${value.element}`;
  return typeof value.value === 'string'
    ? `the string ${quoted(value.value)}`
    : `the ${value.type} ${value.value}`;
}

/**
 * The typed metadata of a GGUF file. Every getter throws ERR_FORMAT, naming file and key, when the value has another
 * type; when the key is missing it returns the second argument, if one was given (`undefined` counts as given).
 */
export class GgufMetadata {
  /** The file that errors name. */
  readonly path: string;
  readonly #values: ReadonlyMap<string, GgufValue>;

  constructor(path: string, values: ReadonlyMap<string, GgufValue>) {
    this.path = path;
    this.#values = values;
  }

  get size(): number {
    return this.#values.size;
  }

  has(key: string): boolean {
    return this.#values.has(key);
  }

  /** The value as it stands in the file. */
  raw(key: string): GgufValue | undefined {
    return this.#values.get(key);
  }

  entries(): IterableIterator<[string, GgufValue]> {
    return this.#values.entries();
  }

  /** An integer of any width that is a safe integer. */
  getInt(key: string): number;
  getInt<T>(key: string, fallback: T): number | T;
  getInt<T>(key: string, ...fallback: [T?]): number | T {
    return this.#get(key, fallback, 'an integer below 2^53', (value) => {
      if (value.type === 'array') return undefined;
      return integerTypes.has(value.type) ? safeInteger(value.value as number | bigint) : undefined;
    });
  }

  /** A finite number: a float, or an integer written where a float is meant. */
  getFloat(key: string): number;
  getFloat<T>(key: string, fallback: T): number | T;
  getFloat<T>(key: string, ...fallback: [T?]): number | T {
    return this.#get(key, fallback, 'a finite number', (value) => {
      if (value.type === 'array') return undefined;
      if (integerTypes.has(value.type)) return safeInteger(value.value as number | bigint);
      const isFloat = value.type === 'f32' || value.type === 'f64';
      return isFloat && Number.isFinite(value.value) ? (value.value as number) : undefined;
    });
  }

  getString(key: string): string;
  getString<T>(key: string, fallback: T): string | T;
  getString<T>(key: string, ...fallback: [T?]): string | T {
    return this.#get(key, fallback, 'a string', (value) =>
      value.type === 'string' ? (value.value as string) : undefined,
    );
  }

  getBool(key: string): boolean;
  getBool<T>(key: string, fallback: T): boolean | T;
  getBool<T>(key: string, ...fallback: [T?]): boolean | T {
    return this.#get(key, fallback, 'a bool', (value) =>
      value.type === 'bool' ? (value.value as boolean) : undefined,
    );
  }

  getStringArray(key: string): readonly string[];
  getStringArray<T>(key: string, fallback: T): readonly string[] | T;
  getStringArray<T>(key: string, ...fallback: [T?]): readonly string[] | T {
    return this.#get(key, fallback, 'an array of strings', (value) =>
      value.type === 'array' && value.element === 'string' ? (value.value as readonly string[]) : undefined,
    );
  }

  /** An array of integers of any width, all of them safe integers. */
  getIntArray(key: string): readonly number[];
  getIntArray<T>(key: string, fallback: T): readonly number[] | T;
  getIntArray<T>(key: string, ...fallback: [T?]): readonly number[] | T {
    return this.#get(key, fallback, 'an array of integers below 2^53', (value) => {
      if (value.type !== 'array' || !integerTypes.has(value.element)) return undefined;
      return safeIntegers(value.value as GgufNumbers);
    });
  }

  /** An array of floats (infinities allowed, NaN not), or of integers written where floats are meant. */
  getFloatArray(key: string): readonly number[];
  getFloatArray<T>(key: string, fallback: T): readonly number[] | T;
  getFloatArray<T>(key: string, ...fallback: [T?]): readonly number[] | T {
    return this.#get(key, fallback, 'an array of numbers', (value) => {
      if (value.type !== 'array') return undefined;
      if (integerTypes.has(value.element)) return safeIntegers(value.value as GgufNumbers);
      if (value.element !== 'f32' && value.element !== 'f64') return undefined;
      const numbers = Array.from(value.value as Float32Array | Float64Array);
      return numbers.some(Number.isNaN) ? undefined : numbers;
    });
  }

  #get<R, T>(
    key: string,
    fallback: readonly [T?],
    expected: string,
    convert: (value: GgufValue) => R | undefined,
  ): R | T {
    const value = this.#values.get(key);
    const place = new Place(this.path, `key ${quoted(key)}`);
    if (value === undefined) {
      if (fallback.length > 0) return fallback[0] as T;
      throw place.format('no such key', expected);
    }
    const result = convert(value);
    if (result === undefined) throw place.format(describe(value), expected);
    return result;
  }
}

function safeInteger(value: number | bigint): number | undefined {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : undefined;
}

function safeIntegers(values: GgufNumbers): number[] | undefined {
  const numbers = Array.from(values as ArrayLike<number | bigint>, Number);
  return numbers.every(Number.isSafeInteger) ? numbers : undefined;
}
