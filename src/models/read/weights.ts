/** Reads the tensors of a checkpoint into packed weights, one after another: each byte is read and packed once. */
import { storageFormats, type TensorEntry, type TensorTable } from '../../checkpoint/tensor-file.js';
import type { WeightBytes, WeightPart, WeightSource } from '../../core/addon.js';
import type { Device } from '../../core/device.js';
import { SwitchyardError } from '../../core/errors.js';
import { isStoredFormat, type StoredFormat, type WeightFormat } from '../../core/format.js';
import { withNativeAbort } from '../../core/native-abort.js';
import { sameShape, shapeText, sizeOf } from '../../core/shape.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import { Weight } from '../../core/weight.js';
import type { Part } from '../decoder/parameters.js';
import type { Place, StoredNames } from './names.js';
import { isDense, packedFormat, scaleGrid } from './packed-format.js';
import type { LoadProgress, TensorSource } from './tensor-source.js';

/** One matrix, or stack of them, to be packed. */
interface Sizes {
  readonly experts: number;
  readonly rows: number;
  readonly columns: number;
}

export class WeightLoader implements TensorSource {
  #loaded = 0;
  readonly #used = new Set<string>();
  readonly #packed: Weight[] = [];

  constructor(
    readonly device: Device,
    readonly table: TensorTable,
    readonly names: StoredNames,
    readonly total: number,
    readonly onProgress: ((progress: LoadProgress) => void) | undefined,
    readonly signal: AbortSignal | undefined,
    /** Names of matrices that stay with the host beside a GPU. */
    readonly onHost: ReadonlySet<string> = new Set(),
  ) {}

  get source(): string {
    return this.table.source;
  }

  /** A matrix, or a stack of them, packed in its stored format. */
  async matrix(part: Part): Promise<Weight> {
    const [columns = 1, rows = 1, experts = 1] = [...part.shape].reverse();
    return this.#pack(part, this.names.placesOf(part), { experts, rows, columns });
  }

  /** A vector, or one for each expert, as f32. */
  async vector(part: Part): Promise<Tensor> {
    return tensor(await this.#values(part, this.names.placesOf(part)), part.shape);
  }

  /** A tensor [size] of the file's own name as f32. */
  async values(name: string, size: number): Promise<Float32Array> {
    const place = { tensor: name, shape: [size], offset: 0, rows: size, rowStride: 1, columnStride: 1 };
    return this.#values({ name, role: 'norm', kind: 'vector', shape: [size] }, [place]);
  }

  /** Reports the end, also where tensors were passed over. */
  finish(): void {
    if (this.#loaded < this.total) this.onProgress?.({ loaded: this.total, total: this.total, tensor: '' });
  }

  /** Frees what was packed, after a failure. */
  release(): void {
    for (const { native } of this.#packed) this.device.addon.disposeWeight(native);
  }

  /** Tensors of the checkpoint that no part of the model asked for. */
  unused(): string[] {
    return [...this.table.names()].filter((name) => !this.#used.has(name));
  }

  /** The numbers of a vector, packed as rows of one column: its places are rows as those of matrices are. */
  async #values(part: Part, places: Iterable<Place>): Promise<Float32Array> {
    const { addon } = this.device;
    const size = sizeOf(part.shape);
    const weight = await this.#pack(part, places, { experts: 1, rows: size, columns: 1 }, 'f32');
    this.#packed.pop();
    try {
      return addon.readWeight(weight.native, 0, 0, size);
    } finally {
      addon.disposeWeight(weight.native);
    }
  }

  /** Shapes may differ by sizes of 1: a matrix of one row is stored as a vector, a stack of one as a matrix. */
  #take({ tensor: name, shape }: Place): TensorEntry {
    const stored = this.table.get(name).shape;
    const long = (sizes: readonly number[]): number[] => sizes.filter((size) => size !== 1);
    const entry = this.table.require(name, sameShape(long(stored), long(shape)) ? stored : shape);
    this.#used.add(name);
    return entry;
  }

  async #pack(
    part: Part,
    places: Iterable<Place>,
    { experts, rows, columns }: Sizes,
    target?: WeightFormat,
  ): Promise<Weight> {
    let as = target;
    let first: TensorEntry | null = null;
    const parts: WeightPart[] = [];
    for (const place of places) {
      const entry = this.#take(place);
      first ??= entry;
      if (entry.format !== first.format)
        throw new SwitchyardError(
          'ERR_UNSUPPORTED',
          `[${entry.path}] got experts of formats ${first.format} and ${entry.format} (${entry.name}), expected one format for all experts of a layer`,
        );
      // all experts of a stack are packed alike
      as ??= changed(entry, packedFormat(entry, place, columns));
      const next = partOf(entry, place, columns);
      const last = parts.at(-1);
      if (last && continues(last, next)) parts[parts.length - 1] = joined(last, next);
      else parts.push(next);
    }
    const { format, path, name, shape } = first as TensorEntry;
    if (!isStoredFormat(format)) {
      throw new SwitchyardError(
        'ERR_UNSUPPORTED',
        `[${path}] got tensor ${name} ${shapeText(shape)} of type ${format}, expected a float or block type that weights may have`,
      );
    }
    const { addon, native: runtime } = this.device;
    const source: WeightSource = {
      name: part.name,
      format,
      experts,
      rows,
      columns,
      parts,
      ...(as ? { as } : {}),
      onHost: this.onHost.has(part.name),
    };
    try {
      const native = await withNativeAbort(addon, this.signal, (abort) =>
        addon.packWeight(runtime, source, abort),
      );
      const info = addon.weightInfo(native);
      const weight = new Weight(native, info.format as WeightFormat, experts, rows, columns, info.bytes);
      this.#packed.push(weight);
      this.#loaded += sizeOf([experts, rows, columns]) * bytesPerValue(format);
      this.onProgress?.({ loaded: this.#loaded, total: this.total, tensor: name });
      return weight;
    } catch (error) {
      this.signal?.throwIfAborted();
      throw error;
    }
  }
}

const changed = ({ format }: TensorEntry, packed: StoredFormat | undefined): StoredFormat | undefined =>
  packed === format ? undefined : packed;

function bytesPerValue(format: StoredFormat): number {
  const { valuesPerBlock, bytesPerBlock } = storageFormats[format];
  return bytesPerBlock / valuesPerBlock;
}

/** Rows that lie one after another need no strides, and may be of a block format. */
function partOf(entry: TensorEntry, place: Place, columns: number): WeightPart {
  const { offset, rows, rowStride, columnStride } = place;
  const dense = isDense(place, columns);
  const span = dense ? rows * columns : (rows - 1) * rowStride + (columns - 1) * columnStride + 1;
  const grid = scaleGrid(entry, offset);
  const range = ({ path, offset: start, bytes }: Omit<WeightBytes, 'data'>): WeightBytes => {
    const perValue = bytes / sizeOf(entry.shape);
    return { ...(path && { path }), offset: start + offset * perValue, bytes: span * perValue };
  };
  return {
    ...range(entry),
    rows,
    ...(!dense && { rowStride, columnStride }),
    ...(entry.scales && { scales: range(entry.scales) }),
    ...(grid && { grid }),
  };
}

const continues = (a: WeightPart, b: WeightPart): boolean =>
  a.rowStride === undefined &&
  b.rowStride === undefined &&
  !a.grid &&
  !b.grid &&
  follows(a, b) &&
  (!a.scales || !b.scales || follows(a.scales, b.scales));
const follows = (a: WeightBytes, b: WeightBytes): boolean =>
  a.path === b.path && a.offset + a.bytes === b.offset;
const joined = (a: WeightPart, b: WeightPart): WeightPart => ({
  ...a,
  bytes: a.bytes + b.bytes,
  rows: (a.rows as number) + (b.rows as number),
  ...(a.scales && b.scales && { scales: { ...a.scales, bytes: a.scales.bytes + b.scales.bytes } }),
});

/** A weight from values in memory, row-major [experts · rows, columns]. */
export async function packValues(
  device: Device,
  values: Float32Array,
  rows: number,
  columns: number,
  experts = 1,
): Promise<Weight> {
  if (values.length !== sizeOf([experts, rows, columns])) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[packValues] got ${values.length} values, expected ${experts} × ${rows} × ${columns}`,
    );
  }
  const parts = [{ data: values, offset: 0, bytes: values.byteLength }];
  const native = await device.addon.packWeight(device.native, {
    format: 'f32',
    experts,
    rows,
    columns,
    parts,
  });
  return new Weight(native, 'f32', experts, rows, columns, device.addon.weightInfo(native).bytes);
}
