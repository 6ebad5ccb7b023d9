/** Reads the header of a packed file: what is in it and where. Weights are mapped natively. */
import { addon } from '../core/addon.js';
import { SwitchyardError } from '../core/errors.js';
import { isWeightFormat } from '../core/format.js';
import { Place, quoted } from './checked.js';
import { withReader } from './file-reader.js';
import { type JsonObject, type JsonValue, parseJsonObject } from './json-file.js';
import {
  byteOrderMark,
  matrixAlign,
  type PackedMatrix,
  type PackedVector,
  packedFileVersion,
  packedMagic,
  preambleBytes,
  vectorAlign,
} from './packed-layout.js';
import { TensorTable } from './tensor-file.js';

export interface PackedFile {
  readonly path: string;
  /** Of the whole file. */
  readonly bytes: number;
  /** Preamble and header: what the native side compares with the file that it maps. */
  readonly head: Buffer;
  /** The model's config as plain data, not looked into. */
  readonly config: JsonObject;
  /** Ids after which a generation is over, so that nobody has to build the tokenizer for them. */
  readonly endIds: readonly number[];
  readonly matrices: ReadonlyMap<string, PackedMatrix>;
  readonly vectors: ReadonlyMap<string, PackedVector>;
  /** Matrices and vectors in one table, as of any checkpoint. */
  readonly tensors: TensorTable;
  /** The content of the tokenizer's files, for parsePackedTokenizer: read at once, as the file may be gone later. */
  readonly tokenizer: Buffer;
}

/** Far above any model (the largest published ones have about 100,000 matrices). */
const headerLimits = { bytes: 64 << 20, depth: 16, values: 1 << 22 };
const tokenizerLimits = { bytes: 256 << 20, depth: 64, values: 1 << 24 };
const mostIds = 1 << 16;

/**
 * Reads the header of a packed file and checks that all it names lies inside the file, apart from each other.
 * @throws SwitchyardError ERR_FORMAT or ERR_IO, naming the file and the tensor; ERR_UNSUPPORTED for another version
 */
export function readPacked(path: string): PackedFile {
  return withReader(path, (reader) => {
    const preamble = Buffer.from(reader.bytes(preambleBytes, 'preamble'));
    const [headerBytes, tokenizerBytes] = readPreamble(preamble, reader.size, reader.place);
    const json = Buffer.from(reader.bytes(headerBytes, 'header'));
    const head = Buffer.concat([preamble, json]);
    const tokenizer = Buffer.from(reader.bytes(tokenizerBytes, 'tokenizer'));
    const place = new Place(path, 'header');
    const header = parseJsonObject(json, place, headerLimits);
    const {
      config,
      end_ids: endIds,
      tensors,
    } = only(place, header, ['producer', 'config', 'end_ids', 'tensors']);
    const start = preambleBytes + headerBytes + tokenizerBytes;
    const { matrices, vectors } = readTable(path, tensors, start, reader.size);
    return {
      path,
      bytes: reader.size,
      head,
      config: asObject(place.at('config'), config),
      endIds: readIds(place.at('end_ids'), endIds),
      matrices,
      vectors,
      tensors: tableOf(path, matrices, vectors),
      tokenizer,
    };
  });
}

/** Lengths of the header and of the tokenizer. */
function readPreamble(preamble: Buffer, size: number, place: Place): [header: number, tokenizer: number] {
  if (!preamble.subarray(0, packedMagic.length).equals(packedMagic))
    throw place.format('a file of another kind', 'a packed file');
  const [order, version, layout, reserved] = [8, 12, 16, 20].map((at) => preamble.readUInt32LE(at));
  if (order !== byteOrderMark) throw place.format(`byte order ${order?.toString(16)}`, 'little-endian');
  if (version !== packedFileVersion)
    throw place.unsupported(`version ${version}`, `${packedFileVersion}`, 'write the file again');
  const { packVersion } = addon();
  if (layout !== packVersion)
    throw place.unsupported(`weights of layout ${layout}`, `${packVersion}`, 'write the file again');
  if (reserved !== 0) throw place.format('a reserved word that is not 0', '0');
  const length = (at: number, what: string, most: number): number => {
    const bytes = preamble.readBigUInt64LE(at);
    if (bytes > BigInt(most)) throw place.format(`${what} of ${bytes} bytes`, `at most ${most}`);
    return Number(bytes);
  };
  const header = length(24, 'a header', headerLimits.bytes);
  const tokenizer = length(32, 'a tokenizer', tokenizerLimits.bytes);
  const whole = length(40, 'a file', Number.MAX_SAFE_INTEGER);
  if (whole !== size)
    throw place.format(`${size} bytes`, `${whole}`, 'the file is truncated or damaged: write it again');
  return [header, tokenizer];
}

type Row = Readonly<Record<string, JsonValue | undefined>>;

/** The object itself, where it has no key beyond `keys`. */
function only(place: Place, object: JsonObject, keys: readonly string[]): Row {
  const odd = Object.keys(object).find((key) => !keys.includes(key));
  if (odd !== undefined) throw place.format(`key ${quoted(odd)}`, `only ${keys.join(', ')}`);
  return object;
}

function asObject(place: Place, value: JsonValue | undefined): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw place.format('no object', 'an object');
}

function asList(place: Place, value: JsonValue | undefined): readonly JsonValue[] {
  if (Array.isArray(value)) return value as readonly JsonValue[];
  throw place.format('no list', 'a list');
}

function readIds(place: Place, value: JsonValue | undefined): number[] {
  const ids = asList(place, value);
  if (ids.length > mostIds || !ids.every((id) => Number.isSafeInteger(id) && (id as number) >= 0))
    throw place.format('something else', 'a list of token ids');
  return ids as number[];
}

function readTable(
  path: string,
  value: JsonValue | undefined,
  start: number,
  size: number,
): { matrices: Map<string, PackedMatrix>; vectors: Map<string, PackedVector> } {
  const place = new Place(path, 'header');
  const matrices = new Map<string, PackedMatrix>();
  const vectors = new Map<string, PackedVector>();
  const ranges: { name: string; offset: number; end: number }[] = [];
  for (const entry of asList(place.at('tensors'), value)) {
    const row = asObject(place.at('tensors'), entry) as Row;
    const { name } = row;
    if (typeof name !== 'string' || name === '') throw place.format('a tensor without a name', 'a name');
    const at = place.at(`tensor ${quoted(name)}`);
    if (matrices.has(name) || vectors.has(name)) throw at.format('a name twice', 'each name once');
    if ('size' in row) {
      const vector = readVector(at, name, row);
      vectors.set(name, vector);
      ranges.push({ name, offset: vector.offset, end: vector.offset + 4 * vector.size });
    } else {
      const matrix = readMatrix(at, name, row);
      matrices.set(name, matrix);
      ranges.push({ name, offset: matrix.offset, end: matrix.offset + matrix.bytes });
    }
  }
  let free = start;
  for (const { name, offset, end } of ranges.sort((a, b) => a.offset - b.offset)) {
    const at = place.at(`tensor ${quoted(name)}`);
    if (offset < free) throw at.format(`an offset of ${offset}`, `at least ${free}, where others end`);
    if (end > size) throw at.format(`an end at byte ${end}`, `at most ${size}, the end of the file`);
    free = end;
  }
  return { matrices, vectors };
}

/** A whole number of a row, from `least` on. */
function whole(place: Place, row: Row, key: string, least: number): number {
  const value = row[key];
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= least) return value;
  throw place.format(`${key} ${JSON.stringify(value)?.slice(0, 100)}`, `a whole number ≥ ${least}`);
}

function aligned(place: Place, row: Row, align: number): number {
  const offset = whole(place, row, 'offset', 0);
  if (offset % align === 0) return offset;
  throw place.format(`an offset of ${offset}`, `a multiple of ${align}`);
}

function readVector(place: Place, name: string, from: Row): PackedVector {
  const row = only(place, from as JsonObject, ['name', 'size', 'offset']);
  const size = whole(place, row, 'size', 1);
  place.multiply(4, size, 'byte size');
  return { name, size, offset: aligned(place, row, vectorAlign) };
}

const matrixKeys = ['name', 'format', 'experts', 'rows', 'columns', 'repeated', 'offset', 'bytes'];

function readMatrix(place: Place, name: string, from: Row): PackedMatrix {
  const row = only(place, from as JsonObject, matrixKeys);
  const { format, repeated = false } = row;
  if (typeof format !== 'string' || !isWeightFormat(format))
    throw place.format(`format ${JSON.stringify(format)?.slice(0, 100)}`, 'a format of packed weights');
  if (typeof repeated !== 'boolean') throw place.format('repeated that is neither', 'true or false');
  const [experts, rows, columns] = ['experts', 'rows', 'columns'].map((key) => whole(place, row, key, 1)) as [
    number,
    number,
    number,
  ];
  const bytes = whole(place, row, 'bytes', 1);
  const wanted = packedBytes(place, format, repeated ? 1 : experts, rows, columns);
  if (bytes !== wanted) throw place.format(`${bytes} bytes`, `${wanted} for its sizes and format`);
  return { name, format, experts, rows, columns, repeated, offset: aligned(place, row, matrixAlign), bytes };
}

function packedBytes(place: Place, format: string, experts: number, rows: number, columns: number): number {
  try {
    return addon().packedBytes(format, experts, rows, columns);
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    throw place.format(`${experts} × [${rows}, ${columns}] of ${format}`, 'sizes that a weight can have');
  }
}

function tableOf(
  path: string,
  matrices: ReadonlyMap<string, PackedMatrix>,
  vectors: ReadonlyMap<string, PackedVector>,
): TensorTable {
  const entries = [
    ...[...vectors.values()].map(({ name, size, offset }) => ({
      name,
      shape: [size],
      format: 'f32' as const,
      path,
      offset,
      bytes: 4 * size,
    })),
    ...[...matrices.values()].map(({ name, format, experts, rows, columns, offset, bytes }) => ({
      name,
      shape: experts === 1 ? [rows, columns] : [experts, rows, columns],
      format,
      path,
      offset,
      bytes,
    })),
  ];
  return new TensorTable(
    path,
    entries.sort((a, b) => a.offset - b.offset),
  );
}

/** The content of the tokenizer's files, as it was written. */
export const parsePackedTokenizer = ({ path, tokenizer }: PackedFile): JsonObject =>
  parseJsonObject(tokenizer, new Place(path, 'tokenizer'), tokenizerLimits);

/** The values of all vectors. */
export function readPackedVectors({ path, head, vectors }: PackedFile): Map<string, Float32Array> {
  const values = new Map<string, Float32Array>();
  withReader(path, (reader) => {
    // Another process may have put another file in its place since.
    if (!reader.bytes(head.length, 'header').equals(head))
      throw reader.place.io('another file than a moment ago', 'the same file');
    for (const { name, size, offset } of [...vectors.values()].sort((a, b) => a.offset - b.offset)) {
      reader.seek(offset);
      // A copy: aligned, and not in the way of the reader's window.
      const bytes = new Uint8Array(reader.bytes(4 * size, name));
      values.set(name, new Float32Array(bytes.buffer, bytes.byteOffset, size));
    }
  });
  return values;
}
