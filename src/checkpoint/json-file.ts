import { readFileSync } from 'node:fs';
import { Place } from './checked.js';
import { fileSize, ioCode } from './file-reader.js';
import { JsonCursor, type JsonLimits } from './json-cursor.js';

export type JsonObject = { readonly [key: string]: JsonValue };
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;

export interface JsonFileLimits extends JsonLimits {
  readonly bytes: number;
}

/**
 * Reads a file that holds one JSON object, without duplicate keys and within `limits`.
 * @throws SwitchyardError ERR_FORMAT or ERR_IO, naming the file.
 */
export function readJsonFile(path: string, limits: JsonFileLimits): JsonObject {
  return parseJsonObject(readBytes(path, limits), new Place(path), limits);
}

/** The same for a file that holds a list. */
export function readJsonList(path: string, limits: JsonFileLimits): readonly JsonValue[] {
  return parseJson(readBytes(path, limits), new Place(path), limits, '[') as readonly JsonValue[];
}

function readBytes(path: string, limits: JsonFileLimits): Buffer {
  const place = new Place(path);
  const size = fileSize(path);
  if (size > limits.bytes) throw place.format(`${size} bytes`, `at most ${limits.bytes}`);
  try {
    return readFileSync(path);
  } catch (cause) {
    throw place.io(ioCode(cause), 'a readable file', { cause });
  }
}

/** The same for bytes that are read already. */
export const parseJsonObject = (bytes: Buffer, place: Place, limits: JsonLimits): JsonObject =>
  parseJson(bytes, place, limits, '{') as JsonObject;

const KINDS = { '{': 'object', '[': 'list' } as const;

function parseJson(bytes: Buffer, place: Place, limits: JsonLimits, first: keyof typeof KINDS): JsonValue {
  const cursor = new JsonCursor(bytes, place);
  const kind = KINDS[first];
  if (cursor.peek() !== first)
    throw place.format(`JSON that is not an ${kind}`.replace('an l', 'a l'), `a JSON ${kind}`);
  cursor.skip(limits);
  cursor.end();
  return JSON.parse(bytes.toString('utf8')) as JsonValue;
}
