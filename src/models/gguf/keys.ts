/** Keys of GGUF metadata and what config.json calls the same: tables of plain data, read in both directions. */
import type { GgufMetadata } from '../../checkpoint/gguf-metadata.js';
import type { GgufValueToWrite } from '../../checkpoint/gguf-write.js';

/** 'count' and 'size' are numbers whose 0 means that the file does not say: whole ones, and others. */
type KeyType = 'int' | 'count' | 'float' | 'size' | 'bool';

/** A key behind the architecture's name, the key of config.json, and the type of both. */
export type GgufKey = readonly [gguf: string, json: string, type: KeyType];

/** Values to write by whole key. */
export type GgufValues = Map<string, GgufValueToWrite>;

/** What a file says, in the vocabulary of config.json; undefined where it says nothing. */
export function readKeys(
  table: readonly GgufKey[],
  metadata: GgufMetadata,
  arch: string,
): Record<string, unknown> {
  const read: Readonly<Record<KeyType, (key: string) => unknown>> = {
    int: (key) => metadata.getInt(key, undefined),
    count: (key) => metadata.getInt(key, undefined) || undefined,
    float: (key) => shortestFloat(metadata.getFloat(key, undefined)),
    size: (key) => shortestFloat(metadata.getFloat(key, undefined)) || undefined,
    bool: (key) => metadata.getBool(key, undefined),
  };
  return Object.fromEntries(table.map(([gguf, json, type]) => [json, read[type](`${arch}.${gguf}`)]));
}

/** The same from a config's words; keys that it has not are left out. */
export function writeKeys(
  table: readonly GgufKey[],
  json: Readonly<Record<string, unknown>>,
  arch: string,
): GgufValues {
  const values: GgufValues = new Map();
  for (const [gguf, name, type] of table) {
    const value = json[name];
    if (value === undefined || value === null) continue;
    const isFloat = type === 'float' || type === 'size';
    values.set(`${arch}.${gguf}`, isFloat ? { f32: value as number } : (value as number | boolean));
  }
  return values;
}

/**
 * The shortest decimal of a float32: 1e-5 instead of 0.000009999999747378752. Configs are written in decimals, and what is
 * computed from them in double precision should come out as it did there.
 */
export function shortestFloat<T extends number | undefined>(value: T): T {
  if (value === undefined || Math.fround(value) !== value) return value;
  for (let digits = 1; digits < 10; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short as T;
  }
  return value;
}
