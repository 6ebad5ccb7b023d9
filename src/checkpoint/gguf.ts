// GGUF, versions 2 and 3, little endian. The file is: magic, version, two counts, metadata, tensor infos, padding to
// the alignment, tensor bytes. Layout: the GGUF specification (docs/gguf.md of the ggml project).
import { quoted } from './checked.js';
import { type FileReader, withReader } from './file-reader.js';
import { GgufMetadata, type GgufNumbers, type GgufScalarType, type GgufValue } from './gguf-metadata.js';
import { type StorageFormat, storageBytes, type TensorEntry, TensorTable } from './tensor-file.js';

export const ggufMagic = 'GGUF';

/** Bounds on what a header may ask for; the largest published ones stay far below each of them. */
const limits = {
  headerBytes: 256 << 20, // 262,144 tokens with merges take 15 MB
  keys: 1 << 16,
  keyBytes: 65_535, // of the specification
  tensors: 1 << 20,
  tensorNameBytes: 1024, // the specification says 64; longer ones exist
  stringBytes: 64 << 20,
  arrayItems: 1 << 24,
  dimensions: 4,
  alignment: { least: 8, most: 65_536 },
} as const;
const defaultAlignment = 32;

/** Fewest bytes of a key with its value, and of a tensor info: what bounds the two counts by the file's size. */
const leastKeyBytes = 8 + 1 + 4 + 1;
const leastTensorInfoBytes = 8 + 1 + 4 + 8 + 4 + 8;

const scalarTypes: readonly (GgufScalarType | 'array')[] = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
];

/** Bytes of an item in an array; a string has at least its length. */
const itemBytes: Record<GgufScalarType, number> = {
  u8: 1,
  i8: 1,
  bool: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  u64: 8,
  i64: 8,
  f64: 8,
  string: 8,
};

/** The numbers of tensor types in the file. Gaps were removed from the format or are not known here. */
export const ggufTensorTypes: Readonly<Record<number, StorageFormat>> = {
  0: 'f32',
  1: 'f16',
  2: 'q4_0',
  3: 'q4_1',
  6: 'q5_0',
  7: 'q5_1',
  8: 'q8_0',
  9: 'q8_1',
  10: 'q2_k',
  11: 'q3_k',
  12: 'q4_k',
  13: 'q5_k',
  14: 'q6_k',
  15: 'q8_k',
  16: 'iq2_xxs',
  17: 'iq2_xs',
  18: 'iq3_xxs',
  19: 'iq1_s',
  20: 'iq4_nl',
  21: 'iq3_s',
  22: 'iq2_s',
  23: 'iq4_xs',
  24: 'i8',
  25: 'i16',
  26: 'i32',
  27: 'i64',
  28: 'f64',
  29: 'iq1_m',
  30: 'bf16',
  34: 'tq1_0',
  35: 'tq2_0',
  39: 'mxfp4',
  40: 'nvfp4',
};

export interface GgufFile {
  readonly path: string;
  readonly version: number;
  readonly alignment: number;
  readonly metadata: GgufMetadata;
  readonly tensors: TensorTable;
}

/**
 * Reads the header of a GGUF file (never the tensor bytes) and checks it whole: after this every tensor's bytes lie
 * inside the file, aligned, and overlap no other's.
 * @throws SwitchyardError ERR_FORMAT or ERR_IO, naming the file and the key or tensor.
 */
export function readGguf(path: string): GgufFile {
  return withReader(path, (reader) => {
    reader.limit(limits.headerBytes);
    const version = readVersion(reader);
    const tensorCount = readCount(reader, 'tensor count', limits.tensors);
    const keyCount = readCount(reader, 'key count', limits.keys);
    checkCount(reader, 'key count', keyCount, leastKeyBytes);
    checkCount(reader, 'tensor count', tensorCount, leastTensorInfoBytes);

    const metadata = new GgufMetadata(path, readMetadata(reader, keyCount));
    const alignment = readAlignment(reader, metadata);
    const tensors = readTensorInfos(reader, tensorCount, alignment);
    return { path, version, alignment, metadata, tensors: new TensorTable(path, tensors) };
  });
}

function readVersion(reader: FileReader): number {
  const { place } = reader;
  const magic = reader.bytes(4, 'the magic').toString('latin1');
  if (magic !== ggufMagic) throw place.format(`magic ${quoted(magic)}`, `"${ggufMagic}"`);
  const version = reader.u32('the version');
  if (version === 2 || version === 3) return version;
  // A small number in the upper half is a small number with its bytes in the other order.
  const hint = version > 0xffff ? 'this is a big-endian file: convert it to little endian' : undefined;
  throw place.format(`GGUF version ${version}`, 'version 2 or 3', hint);
}

function readCount(reader: FileReader, what: string, most: number): number {
  const count = reader.u64(what);
  if (count > most) throw reader.place.format(`${what} ${count}`, `at most ${most}`);
  return count;
}

/** Before anything is allocated: do `count` items of at least `least` bytes fit into what is left of the file? */
function checkCount(reader: FileReader, what: string, count: number, least: number): void {
  if (count > Math.floor(reader.remaining / least)) {
    const expected = `at most ${Math.floor(reader.remaining / least)} in the ${reader.remaining} bytes left`;
    throw reader.place.format(
      `${what} ${count}`,
      expected,
      'the file is truncated or damaged: fetch it again',
    );
  }
}

function readText(reader: FileReader, what: string, most: number): string {
  const length = reader.u64('the text length');
  if (length > most) throw reader.place.format(`${what} of ${length} bytes`, `at most ${most}`);
  return reader.text(length, what);
}

function readName(reader: FileReader, what: string, most: number): string {
  const name = readText(reader, what, most);
  if (name === '') throw reader.place.format(`an empty ${what}`, 'a name');
  return name;
}

function readMetadata(reader: FileReader, count: number): Map<string, GgufValue> {
  const file = reader.place;
  const values = new Map<string, GgufValue>();
  for (let i = 0; i < count; i++) {
    reader.place = file.at(`key ${i} of ${count}`);
    const key = readName(reader, 'key', limits.keyBytes);
    reader.place = file.at(`key ${quoted(key)}`);
    if (values.has(key)) throw reader.place.format('a key twice', 'each key once');
    values.set(key, readValue(reader));
  }
  reader.place = file;
  return values;
}

function readType(reader: FileReader): GgufScalarType | 'array' {
  const number = reader.u32('the value type');
  if (number >= scalarTypes.length) throw reader.place.format(`value type ${number}`, 'a type from 0 to 12');
  return scalarTypes[number];
}

function readValue(reader: FileReader): GgufValue {
  const type = readType(reader);
  if (type !== 'array') return { type, value: readScalar(reader, type) };
  const element = readType(reader);
  if (element === 'array') throw reader.place.format('an array of arrays', 'an array of single values');
  const count = readCount(reader, 'array length', limits.arrayItems);
  checkCount(reader, 'array length', count, itemBytes[element]);
  return { type, element, value: readItems(reader, element, count) };
}

function readScalar(reader: FileReader, type: GgufScalarType): number | bigint | boolean | string {
  if (type === 'string') return readText(reader, 'string', limits.stringBytes);
  const bytes = reader.bytes(itemBytes[type], 'the value');
  switch (type) {
    case 'u8':
      return bytes.readUInt8();
    case 'i8':
      return bytes.readInt8();
    case 'u16':
      return bytes.readUInt16LE();
    case 'i16':
      return bytes.readInt16LE();
    case 'u32':
      return bytes.readUInt32LE();
    case 'i32':
      return bytes.readInt32LE();
    case 'u64':
      return bytes.readBigUInt64LE();
    case 'i64':
      return bytes.readBigInt64LE();
    case 'f32':
      return bytes.readFloatLE();
    case 'f64':
      return bytes.readDoubleLE();
    case 'bool':
      return checkBool(reader, bytes[0]) === 1;
  }
}

function checkBool(reader: FileReader, byte: number): number {
  if (byte > 1) throw reader.place.format(`bool ${byte}`, '0 or 1');
  return byte;
}

function readItems(
  reader: FileReader,
  element: GgufScalarType,
  count: number,
): readonly string[] | GgufNumbers {
  if (element === 'string') {
    const texts: string[] = [];
    for (let i = 0; i < count; i++) texts.push(readText(reader, 'string', limits.stringBytes));
    return texts;
  }
  // A copy, because the reader's window moves on and because typed arrays need an aligned start.
  const bytes = new Uint8Array(reader.bytes(count * itemBytes[element], 'the array'));
  switch (element) {
    case 'bool':
      for (const byte of bytes) checkBool(reader, byte);
      return bytes;
    case 'u8':
      return bytes;
    case 'i8':
      return new Int8Array(bytes.buffer);
    case 'u16':
      return new Uint16Array(bytes.buffer);
    case 'i16':
      return new Int16Array(bytes.buffer);
    case 'u32':
      return new Uint32Array(bytes.buffer);
    case 'i32':
      return new Int32Array(bytes.buffer);
    case 'u64':
      return new BigUint64Array(bytes.buffer);
    case 'i64':
      return new BigInt64Array(bytes.buffer);
    case 'f32':
      return new Float32Array(bytes.buffer);
    case 'f64':
      return new Float64Array(bytes.buffer);
  }
}

function readAlignment(reader: FileReader, metadata: GgufMetadata): number {
  const alignment = metadata.getInt('general.alignment', defaultAlignment);
  const { least, most } = limits.alignment;
  const isPowerOfTwo = Number.isInteger(Math.log2(alignment));
  if (alignment >= least && alignment <= most && isPowerOfTwo) return alignment;
  const place = reader.place.at('key "general.alignment"');
  throw place.format(`${alignment}`, `a power of two from ${least} to ${most}`);
}

function readTensorInfos(reader: FileReader, count: number, alignment: number): TensorEntry[] {
  const file = reader.place;
  // Offsets count from the end of the header, which is known only when all infos have been read.
  const infos: TensorEntry[] = [];
  for (let i = 0; i < count; i++) {
    reader.place = file.at(`tensor ${i} of ${count}`);
    const name = readName(reader, 'tensor name', limits.tensorNameBytes);
    reader.place = file.at(`tensor ${quoted(name)}`);
    infos.push(readTensorInfo(reader, name, alignment));
  }
  reader.place = file;

  const dataStart = file.alignUp(reader.offset, alignment, 'data start');
  const entries = infos.map((info) => {
    const place = file.at(`tensor ${quoted(info.name)}`);
    const offset = place.add(dataStart, info.offset, 'offset');
    const end = place.add(offset, info.bytes, 'end');
    if (end > reader.size) {
      const hint = 'the file is truncated or damaged: fetch it again';
      throw place.format(`bytes ${offset} to ${end}`, `an end inside the file of ${reader.size} bytes`, hint);
    }
    return { ...info, offset };
  });
  checkOverlap(reader, entries);
  return entries;
}

function readTensorInfo(reader: FileReader, name: string, alignment: number): TensorEntry {
  const { place } = reader;
  const rank = reader.u32('the number of dimensions');
  if (rank < 1 || rank > limits.dimensions) throw place.format(`${rank} dimensions`, '1 to 4');
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) {
    const size = reader.u64('a dimension');
    if (size === 0) throw place.format('a dimension of 0', 'at least 1');
    shape.unshift(size); // the file lists the innermost dimension first
  }
  const type = reader.u32('the tensor type');
  const format = Object.hasOwn(ggufTensorTypes, type) ? ggufTensorTypes[type] : undefined;
  if (format === undefined) throw place.format(`tensor type ${type}`, 'a type of the GGUF table');
  const offset = reader.u64('the offset');
  if (offset % alignment !== 0) throw place.format(`offset ${offset}`, `a multiple of ${alignment}`);
  return { name, shape, format, path: reader.path, offset, bytes: storageBytes(place, shape, format) };
}

function checkOverlap(reader: FileReader, entries: readonly TensorEntry[]): void {
  const sorted = entries.toSorted((a, b) => a.offset - b.offset);
  for (let i = 1; i < sorted.length; i++) {
    const [before, after] = [sorted[i - 1], sorted[i]];
    if (before.offset + before.bytes > after.offset) {
      const place = reader.place.at(`tensor ${quoted(after.name)}`);
      throw place.format(`bytes that start inside ${quoted(before.name)}`, 'tensors that do not overlap');
    }
  }
}
