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
  const place = new Place(path);
  const size = fileSize(path);
  if (size > limits.bytes) throw place.format(`${size} bytes`, `at most ${limits.bytes}`);
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw place.io(ioCode(cause), 'a readable file', { cause });
  }
  return parseJsonObject(bytes, place, limits);
}

/** The same for bytes that are read already. */
export function parseJsonObject(bytes: Buffer, place: Place, limits: JsonLimits): JsonObject {
  const cursor = new JsonCursor(bytes, place);
  if (cursor.peek() !== '{') throw place.format('JSON that is not an object', 'a JSON object');
  cursor.skip(limits);
  cursor.end();
  return JSON.parse(bytes.toString('utf8')) as JsonObject;
}
