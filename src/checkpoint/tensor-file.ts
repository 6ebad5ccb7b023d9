import type { WeightFormat } from '../core/format.js';
import { Place, quoted } from './checked.js';

interface FormatShape {
  /** Values that are stored together; the last dimension is a multiple of it. */
  readonly valuesPerBlock: number;
  readonly bytesPerBlock: number;
  /** Whether weights of this format can be loaded; the others are known so that errors and `inspect` name them. */
  readonly loadable: boolean;
}

const plain = (bytesPerBlock: number): FormatShape => ({ valuesPerBlock: 1, bytesPerBlock, loadable: true });
const block = (valuesPerBlock: number, bytesPerBlock: number): FormatShape => ({
  valuesPerBlock,
  bytesPerBlock,
  loadable: true,
});
const known = (valuesPerBlock: number, bytesPerBlock: number): FormatShape => ({
  valuesPerBlock,
  bytesPerBlock,
  loadable: false,
});

/** Every way a checkpoint stores numbers, with its block size. */
export const storageFormats = {
  f64: plain(8),
  f32: plain(4),
  f16: plain(2),
  bf16: plain(2),
  i64: plain(8),
  i32: plain(4),
  i16: plain(2),
  i8: plain(1),
  u8: plain(1),
  bool: plain(1),
  q4_0: block(32, 18),
  q4_1: block(32, 20),
  q5_0: block(32, 22),
  q5_1: block(32, 24),
  q8_0: block(32, 34),
  q2_k: block(256, 84),
  q3_k: block(256, 110),
  q4_k: block(256, 144),
  q5_k: block(256, 176),
  q6_k: block(256, 210),
  iq4_nl: block(32, 18),
  iq4_xs: block(256, 136),
  tq1_0: block(256, 54),
  tq2_0: block(256, 66),
  mxfp4: block(32, 17),
  f8_e4m3: plain(1),
  // GGUF formats without a decoder here.
  q8_1: known(32, 36),
  q8_k: known(256, 292),
  iq1_s: known(256, 50),
  iq1_m: known(256, 56),
  iq2_xxs: known(256, 66),
  iq2_xs: known(256, 74),
  iq2_s: known(256, 82),
  iq3_xxs: known(256, 98),
  iq3_s: known(256, 110),
  nvfp4: known(64, 36),
  // safetensors dtypes without a use here.
  u16: known(1, 2),
  u32: known(1, 4),
  u64: known(1, 8),
  c64: known(1, 8),
  f8_e5m2: known(1, 1),
  f8_e8m0: known(1, 1),
  f6_e2m3: known(4, 3),
  f6_e3m2: known(4, 3),
  f4: known(2, 1),
} as const satisfies Record<string, FormatShape>;

export type StorageFormat = keyof typeof storageFormats;

/** Where the bytes of one tensor lie. The reader has checked that they lie inside the file. */
export interface TensorEntry {
  readonly name: string;
  /** Row-major, outermost dimension first (the reverse of the order in a GGUF file). */
  readonly shape: readonly number[];
  /** Packed files hold weights in the formats that they have in memory. */
  readonly format: StorageFormat | WeightFormat;
  readonly path: string;
  /** Absolute byte in the file. Aligned in GGUF, anything in safetensors. */
  readonly offset: number;
  readonly bytes: number;
  /** mxfp4 of safetensors: where its scales lie, a byte for every 32 values; the tensor's own bytes are codes alone. */
  readonly scales?: ByteRange;
  /** f8_e4m3: its scales, one for each block of rows and columns; without them codes stand for themselves. */
  readonly grid?: ByteRange & {
    readonly format: 'f32' | 'f16' | 'bf16';
    readonly blockRows: number;
    readonly blockColumns: number;
  };
}

interface ByteRange {
  readonly path: string;
  readonly offset: number;
  readonly bytes: number;
}

/** Bytes of a tensor in its files. */
export const fileBytes = ({ bytes, scales, grid }: TensorEntry): number =>
  bytes + (scales?.bytes ?? 0) + (grid?.bytes ?? 0);

/** How many bytes `shape` takes in `format`; ERR_FORMAT where blocks do not fill the last dimension. */
export function storageBytes(place: Place, shape: readonly number[], format: StorageFormat): number {
  const { valuesPerBlock, bytesPerBlock } = storageFormats[format];
  const count = place.product(shape, 'element count');
  const columns = shape.at(-1) ?? 1;
  if (columns % valuesPerBlock !== 0) {
    throw place.format(`${columns} columns of ${format}`, `a multiple of ${valuesPerBlock}`);
  }
  return place.multiply(count / valuesPerBlock, bytesPerBlock, 'byte size');
}

/** The tensors of a checkpoint by name, in the order of the file (or files). */
export class TensorTable implements Iterable<TensorEntry> {
  /** The file or folder that errors name. */
  readonly source: string;
  readonly #entries = new Map<string, TensorEntry>();

  constructor(source: string, entries: Iterable<TensorEntry>) {
    this.source = source;
    for (const entry of entries) {
      if (this.#entries.has(entry.name)) {
        throw new Place(entry.path, `tensor ${quoted(entry.name)}`).format('a name twice', 'each name once');
      }
      this.#entries.set(entry.name, entry);
    }
  }

  get size(): number {
    return this.#entries.size;
  }

  has(name: string): boolean {
    return this.#entries.has(name);
  }

  /** The entry, or undefined. */
  find(name: string): TensorEntry | undefined {
    return this.#entries.get(name);
  }

  /** The entry; ERR_FORMAT names the file and the nearest names when there is none. */
  get(name: string): TensorEntry {
    const entry = this.#entries.get(name);
    if (entry !== undefined) return entry;
    const near = this.#nearest(name);
    const hint = near.length === 0 ? 'the file holds no tensors' : `nearest names: ${near.join(', ')}`;
    throw new Place(this.source, `tensor ${quoted(name)}`).format('no such tensor', 'it to be there', hint);
  }

  /** `get`, where the shape must be `shape` and the format one that can be loaded. */
  require(name: string, shape: readonly number[]): TensorEntry {
    const entry = this.get(name);
    const place = new Place(entry.path, `tensor ${quoted(name)}`);
    if (entry.shape.length !== shape.length || entry.shape.some((size, i) => size !== shape[i])) {
      throw place.format(`shape [${entry.shape.join(', ')}]`, `[${shape.join(', ')}]`);
    }
    // Formats of packed weights that no other file has are not in the table.
    if (storageFormats[entry.format as StorageFormat]?.loadable === false) {
      const names = Object.entries(storageFormats).filter(([, info]) => info.loadable);
      throw place.unsupported(
        `format ${entry.format}`,
        `one of ${names.map(([format]) => format).join(', ')}`,
        'convert or re-quantise the model to a supported format',
      );
    }
    return entry;
  }

  names(): IterableIterator<string> {
    return this.#entries.keys();
  }

  [Symbol.iterator](): IterableIterator<TensorEntry> {
    return this.#entries.values();
  }

  /** Up to three names that share the longest start and end with `name`: linear, for tables of 100,000 names. */
  #nearest(name: string): string[] {
    const scored: { other: string; score: number }[] = [];
    for (const other of this.#entries.keys()) {
      const limit = Math.min(name.length, other.length);
      let start = 0;
      while (start < limit && name[start] === other[start]) start++;
      let end = 0;
      while (end < limit - start && name.at(-1 - end) === other.at(-1 - end)) end++;
      // Letters that are left over count against the name.
      scored.push({ other, score: 2 * (start + end) - Math.max(name.length, other.length) });
      if (scored.length > 1024) keepBest(scored);
    }
    keepBest(scored);
    return scored.map(({ other }) => quoted(other));
  }
}

function keepBest(scored: { score: number }[]): void {
  scored.sort((a, b) => b.score - a.score);
  scored.length = Math.min(scored.length, 3);
}
