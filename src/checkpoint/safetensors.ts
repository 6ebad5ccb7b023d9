// safetensors: the header's length in 8 bytes (little endian), the header as JSON, tensor bytes without any gap.
// Sharded models add model.safetensors.index.json, which says which file holds which tensor.
import { basename, dirname, join } from 'node:path';
import { Place, quoted } from './checked.js';
import { withReader } from './file-reader.js';
import { JsonCursor } from './json-cursor.js';
import { readJsonFile } from './json-file.js';
import { type StorageFormat, storageBytes, type TensorEntry, TensorTable } from './tensor-file.js';

/** The reference implementation's bound on the header. */
export const maxSafetensorsHeaderBytes = 100_000_000;
const maxTensors = 1 << 20;
const maxDimensions = 16;
const maxMetadata = 1 << 16;
const indexLimits = { bytes: 256 << 20, depth: 8, values: 1 << 21 };

/** dtype names in the header. */
export const safetensorsDtypes: Readonly<Record<string, StorageFormat>> = {
  F64: 'f64',
  F32: 'f32',
  F16: 'f16',
  BF16: 'bf16',
  I64: 'i64',
  I32: 'i32',
  I16: 'i16',
  I8: 'i8',
  U64: 'u64',
  U32: 'u32',
  U16: 'u16',
  U8: 'u8',
  BOOL: 'bool',
  C64: 'c64',
  F8_E4M3: 'f8_e4m3',
  F8_E5M2: 'f8_e5m2',
  F8_E8M0: 'f8_e8m0',
  F6_E2M3: 'f6_e2m3',
  F6_E3M2: 'f6_e3m2',
  F4: 'f4',
};

export interface SafetensorsFile {
  readonly path: string;
  /** The strings under `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly tensors: TensorTable;
}

/**
 * Reads the header of one safetensors file (never the tensor bytes) and checks it whole: the tensors' bytes follow
 * each other without hole or overlap and end where the file ends.
 * @throws SwitchyardError ERR_FORMAT or ERR_IO, naming the file and the tensor.
 */
export function readSafetensors(path: string): SafetensorsFile {
  return withReader(path, (reader) => {
    const { place } = reader;
    const headerBytes = reader.u64('the header length');
    if (headerBytes > maxSafetensorsHeaderBytes) {
      throw place.format(`a header of ${headerBytes} bytes`, `at most ${maxSafetensorsHeaderBytes}`);
    }
    const header = reader.bytes(headerBytes, 'the header');
    if (header[0] !== 0x7b) throw place.format('a header that does not start with {', 'a JSON object');
    const metadata = new Map<string, string>();
    const entries = readHeader(new JsonCursor(header, place), place, metadata);
    checkSpans(place, entries, reader.remaining);
    const dataStart = reader.offset;
    const placed = entries.map((entry) => ({ ...entry, offset: dataStart + entry.offset }));
    return { path, metadata, tensors: new TensorTable(path, placed) };
  });
}

/** The entries in the header's order, with offsets that count from the end of the header. */
function readHeader(cursor: JsonCursor, file: Place, metadata: Map<string, string>): TensorEntry[] {
  const entries: TensorEntry[] = [];
  cursor.object((name) => {
    if (name === '__metadata__') {
      cursor.object((key) => {
        if (metadata.size >= maxMetadata)
          throw file.format(`more than ${maxMetadata} metadata keys`, 'fewer');
        metadata.set(key, cursor.string());
      });
      return;
    }
    if (entries.length >= maxTensors) throw file.format(`more than ${maxTensors} tensors`, 'fewer');
    entries.push(readEntry(cursor, file.at(`tensor ${quoted(name)}`), name));
  });
  cursor.end();
  return entries;
}

function readEntry(cursor: JsonCursor, place: Place, name: string): TensorEntry {
  let dtype: string | undefined;
  let shape: number[] | undefined;
  let offsets: number[] | undefined;
  cursor.object((key) => {
    if (key === 'dtype') dtype = cursor.string();
    else if (key === 'shape') shape = readCounts(cursor, place, 'dimension', maxDimensions);
    else if (key === 'data_offsets') offsets = readCounts(cursor, place, 'offset', 2);
    else throw place.format(`the key ${quoted(key)}`, 'dtype, shape and data_offsets');
  });
  if (dtype === undefined || shape === undefined || offsets === undefined) {
    throw place.format('an incomplete entry', 'dtype, shape and data_offsets');
  }
  const format = Object.hasOwn(safetensorsDtypes, dtype) ? safetensorsDtypes[dtype] : undefined;
  if (format === undefined) {
    throw place.format(`dtype ${quoted(dtype)}`, `one of ${Object.keys(safetensorsDtypes).join(', ')}`);
  }
  const [begin, end] = offsets;
  if (end === undefined || end < begin) throw place.format(`data_offsets [${offsets}]`, '[begin, end]');
  const bytes = storageBytes(place, shape, format);
  if (end - begin !== bytes) {
    throw place.format(`${end - begin} bytes`, `${bytes} for ${format} [${shape.join(', ')}]`);
  }
  return { name, shape, format, path: place.file, offset: begin, bytes };
}

function readCounts(cursor: JsonCursor, place: Place, what: string, most: number): number[] {
  const counts: number[] = [];
  cursor.array(() => {
    if (counts.length === most) throw place.format(`more than ${most} ${what}s`, `at most ${most}`);
    counts.push(cursor.count(what));
  });
  return counts;
}

/** Sorted by offset, each tensor starts where the last one ended, and the last one ends with the file. */
function checkSpans(file: Place, entries: readonly TensorEntry[], dataBytes: number): void {
  const sorted = entries.toSorted((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = 0;
  for (const { name, offset, bytes } of sorted) {
    const place = file.at(`tensor ${quoted(name)}`);
    if (offset !== end) {
      const what = offset < end ? 'an overlap' : 'a hole';
      throw place.format(`${what}: data at byte ${offset}`, `byte ${end}, where the tensor before it ends`);
    }
    end = place.add(offset, bytes, 'end');
    if (end > dataBytes) {
      const hint = 'the file is truncated or damaged: fetch it again';
      throw place.format(`an end at byte ${end} of the data`, `at most ${dataBytes}`, hint);
    }
  }
  if (end !== dataBytes)
    throw file.format(`${dataBytes} bytes of data`, `${end}, where the last tensor ends`);
}

/**
 * Reads a sharded model through its index file: every tensor of `weight_map`, from the file that the map names.
 * Shards must lie beside the index. Tensors of a shard that the map does not list are left out.
 * @throws SwitchyardError ERR_FORMAT or ERR_IO, naming the shard and the tensor.
 */
export function readShardedSafetensors(indexPath: string): TensorTable {
  const place = new Place(indexPath);
  const index = readJsonFile(indexPath, indexLimits);
  const map = index.weight_map;
  if (typeof map !== 'object' || map === null || Array.isArray(map)) {
    throw place.at('key "weight_map"').format('no JSON object', 'an object of tensor names and file names');
  }
  const namesOfShard = new Map<string, string[]>();
  for (const [name, shard] of Object.entries(map)) {
    const tensor = place.at(`tensor ${quoted(name)}`);
    if (typeof shard !== 'string') throw tensor.format('a file name that is not a string', 'a string');
    if (!isPlainName(shard)) {
      throw tensor.format(`the file name ${quoted(shard)}`, 'a plain name of a file beside the index');
    }
    const names = namesOfShard.get(shard);
    if (names === undefined) namesOfShard.set(shard, [name]);
    else names.push(name);
  }
  const entries: TensorEntry[] = [];
  for (const [shard, names] of namesOfShard) {
    const { tensors } = readSafetensors(join(dirname(indexPath), shard));
    for (const name of names) {
      const entry = tensors.find(name);
      if (entry === undefined) {
        const where = new Place(tensors.source, `tensor ${quoted(name)}`);
        throw where.format('no such tensor', `it to be there, as ${basename(indexPath)} says`);
      }
      entries.push(entry);
    }
  }
  return new TensorTable(dirname(indexPath), entries);
}

/** No separator of any system, no drive, no way up, no NUL. */
function isPlainName(name: string): boolean {
  return name !== '' && name !== '.' && name !== '..' && !/[/\\:\0]/.test(name);
}
