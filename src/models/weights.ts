/** Reads the tensors of a checkpoint into packed weights, one after another: each byte is read and packed once. */

import type { TensorEntry, TensorTable } from '../checkpoint/tensor-file.js';
import type { WeightPart, WeightSource } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { SwitchyardError } from '../core/errors.js';
import { isStoredFormat, type WeightFormat } from '../core/format.js';
import { withNativeAbort } from '../core/native-abort.js';
import { shapeText, sizeOf } from '../core/shape.js';
import { type Tensor, tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import type { MatrixSource } from './family.js';
import type { LoadProgress, TensorSource } from './tensor-source.js';

export class WeightLoader implements TensorSource {
  #loaded = 0;
  readonly #used = new Set<string>();
  readonly #packed: Weight[] = [];

  constructor(
    readonly device: Device,
    readonly table: TensorTable,
    readonly total: number,
    readonly onProgress: ((progress: LoadProgress) => void) | undefined,
    readonly signal: AbortSignal | undefined,
  ) {}

  get source(): string {
    return this.table.source;
  }

  /** A matrix [rows, columns], or a stack of `experts` of them, packed in its stored format. */
  async matrix(source: MatrixSource, rows: number, columns: number, experts = 1): Promise<Weight> {
    const entries = this.#entries(source, rows, columns, experts);
    const first = entries[0]?.entry as TensorEntry;
    const odd = entries.find((e) => e.entry.format !== first.format);
    if (odd)
      throw new SwitchyardError(
        'ERR_UNSUPPORTED',
        `[${odd.entry.path}] got experts of formats ${first.format} and ${odd.entry.format} (${odd.entry.name}), expected one format for all experts of a layer`,
      );
    return this.#pack(
      first,
      entries.map((e) => e.part),
      rows,
      columns,
      experts,
    );
  }

  /** A vector [size] as f32. */
  async vector(name: string, size: number): Promise<Tensor> {
    const entry = this.#take(name, [size]);
    const weight = await this.#pack(entry, [partOf(entry)], 1, size, 1, 'f32');
    const values = this.device.addon.readWeight(weight.native, 0, 0, 1);
    this.device.addon.disposeWeight(weight.native);
    return tensor(values);
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

  #take(name: string, shape: readonly number[]): TensorEntry {
    const entry = this.table.require(name, shape);
    this.#used.add(name);
    return entry;
  }

  #entries(
    source: MatrixSource,
    rows: number,
    columns: number,
    experts: number,
  ): { entry: TensorEntry; part: WeightPart }[] {
    if (source.kind === 'per-expert') {
      return source.names.map((name) => {
        const entry = this.#take(name, [rows, columns]);
        return { entry, part: partOf(entry) };
      });
    }
    if (source.kind === 'whole') {
      const stored = this.table.get(source.name);
      const shape = experts === 1 && stored.shape.length === 2 ? [rows, columns] : [experts, rows, columns];
      const entry = this.#take(source.name, shape);
      return [{ entry, part: partOf(entry) }];
    }
    const entry = this.#take(source.name, [experts, source.of, columns]);
    const rowBytes = entry.bytes / (experts * source.of);
    return Array.from({ length: experts }, (_, e) => ({
      entry,
      part: {
        path: entry.path,
        offset: entry.offset + (e * source.of + source.from) * rowBytes,
        bytes: rows * rowBytes,
      },
    }));
  }

  async #pack(
    entry: TensorEntry,
    parts: WeightPart[],
    rows: number,
    columns: number,
    experts: number,
    as?: WeightFormat,
  ): Promise<Weight> {
    if (!isStoredFormat(entry.format)) {
      throw new SwitchyardError(
        'ERR_UNSUPPORTED',
        `[${entry.path}] got tensor ${entry.name} ${shapeText(entry.shape)} of type ${entry.format}, expected a float or block type that weights may have`,
      );
    }
    const { addon, native: runtime } = this.device;
    const source: WeightSource = {
      format: entry.format,
      experts,
      rows,
      columns,
      parts,
      ...(as ? { as } : {}),
    };
    try {
      const native = await withNativeAbort(addon, this.signal, (abort) =>
        addon.packWeight(runtime, source, abort),
      );
      const info = addon.weightInfo(native);
      const weight = new Weight(native, info.format as WeightFormat, experts, rows, columns, info.bytes);
      this.#packed.push(weight);
      this.#loaded += parts.reduce((sum, p) => sum + p.bytes, 0);
      this.onProgress?.({ loaded: this.#loaded, total: this.total, tensor: entry.name });
      return weight;
    } catch (error) {
      this.signal?.throwIfAborted();
      throw error;
    }
  }
}

const partOf = (entry: TensorEntry): WeightPart => ({
  path: entry.path,
  offset: entry.offset,
  bytes: entry.bytes,
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
