/** Rows of a loaded model's parts as bytes, in the order and with the values that another kind of file wants. */
import type { StorageFormat } from '../../checkpoint/tensor-file.js';
import type { Device } from '../../core/device.js';
import { mismatch } from '../../core/errors.js';
import { hasStoredRows } from '../../core/format.js';
import { Weight } from '../../core/weight.js';
import type { DecoderConfig } from '../decoder/config.js';
import type { ParameterMap, Part } from '../decoder/parameters.js';
import { encodeFloats, type FloatFormat, isFloatFormat } from './floats.js';
import { columnsOf } from './tensor-plan.js';

/** How files may differ from what is in memory. */
export interface Differences {
  /** Rotary pairs are neighbours there and halves here, or the other way round. */
  readonly pairs?: { readonly headDim: number; readonly dim: number; readonly interleaved: boolean };
  /** Added to the weights of norms. */
  readonly normOffset?: number;
}

/** What to change on the way from one config to another that stores the same model. */
export function differences(ours: DecoderConfig, theirs: DecoderConfig): Differences {
  const offset = ours.norm.weightOffset - theirs.norm.weightOffset;
  const turns =
    ours.rope !== null && theirs.rope !== null && ours.rope.interleaved !== theirs.rope.interleaved;
  if (turns && ours.latent !== null)
    throw mismatch(
      'ERR_UNSUPPORTED',
      'save',
      'latent attention whose pairs would change places',
      'equal pairs',
    );
  const pairs = turns && {
    headDim: ours.headDim,
    dim: ours.rope?.dim as number,
    interleaved: theirs.rope?.interleaved === true,
  };
  return { ...(offset === 0 ? {} : { normOffset: offset }), ...(pairs ? { pairs } : {}) };
}

const TURNED = /\.attention\.(q|k)(_norm)?\.(weight|bias)$/;

export class PartValues {
  readonly #vectors = new Map<string, Float32Array>();

  constructor(
    readonly device: Device,
    readonly parameters: ParameterMap,
    readonly changes: Differences = {},
  ) {}

  /** The format that a part's bytes have in files; undefined for weights in formats that files do not store. */
  formatOf({ name }: Part): StorageFormat | undefined {
    const parameter = this.parameters.get(name);
    if (!(parameter instanceof Weight)) return 'f32';
    return hasStoredRows(parameter.format) ? parameter.format : undefined;
  }

  /** `count` rows from row `first` on, counted over experts. */
  async rows(part: Part, first: number, count: number, format: StorageFormat): Promise<Uint8Array> {
    const source = this.#sourceRow(part);
    if (source === undefined) return this.#stored(part, first, count, format);
    const rows: Uint8Array[] = [];
    for (let row = first; row < first + count; row++)
      rows.push(await this.#stored(part, source(row), 1, format));
    return Buffer.concat(rows);
  }

  /** All values of a vector. */
  async vector(part: Part): Promise<Float32Array> {
    const known = this.#vectors.get(part.name);
    if (known !== undefined) return known;
    const parameter = this.parameters.get(part.name);
    if (parameter === undefined || parameter instanceof Weight)
      throw mismatch('ERR_FORMAT', part.name, 'a matrix', 'a vector');
    const values = Float32Array.from((await parameter.data()) as Float32Array);
    const { normOffset } = this.changes;
    const changed =
      normOffset !== undefined && part.role === 'norm' ? values.map((v) => v + normOffset) : values;
    this.#vectors.set(part.name, changed);
    return changed;
  }

  /** The row of ours that stands in a row of theirs, where they differ. */
  #sourceRow(part: Part): ((row: number) => number) | undefined {
    const { pairs } = this.changes;
    if (pairs === undefined || !TURNED.test(part.name)) return undefined;
    const { headDim, dim, interleaved } = pairs;
    const half = dim / 2;
    return (row) => {
      const i = row % headDim;
      if (i >= dim) return row;
      const from = interleaved ? (i % 2) * half + (i >> 1) : 2 * (i % half) + (i >= half ? 1 : 0);
      return row - i + from;
    };
  }

  async #stored(part: Part, first: number, count: number, format: StorageFormat): Promise<Uint8Array> {
    const parameter = this.parameters.get(part.name);
    if (!(parameter instanceof Weight)) {
      const columns = columnsOf(part);
      const values = part.kind === 'vector' ? await this.vector(part) : await this.#matrix(part);
      return encoded(part, values.slice(first * columns, (first + count) * columns), format);
    }
    const { addon } = this.device;
    const pieces: Uint8Array[] = [];
    for (let at = first; at < first + count; ) {
      const row = at % parameter.rows;
      const expert = (at - row) / parameter.rows;
      const rows = Math.min(parameter.rows - row, first + count - at);
      pieces.push(
        format === parameter.format
          ? addon.storeWeight(parameter.native, expert, row, rows)
          : encoded(part, addon.readWeight(parameter.native, expert, row, rows), format),
      );
      at += rows;
    }
    return pieces.length === 1 ? (pieces[0] as Uint8Array) : Buffer.concat(pieces);
  }

  /** A matrix that is an ordinary tensor, as trained ones are. */
  async #matrix({ name }: Part): Promise<Float32Array> {
    const parameter = this.parameters.get(name);
    if (parameter === undefined || parameter instanceof Weight)
      throw mismatch('ERR_FORMAT', name, 'nothing', 'values');
    return (await parameter.data()) as Float32Array;
  }
}

function encoded({ name }: Part, values: Float32Array, format: StorageFormat): Uint8Array {
  if (isFloatFormat(format)) return encodeFloats(values, format as FloatFormat);
  throw mismatch('ERR_UNSUPPORTED', name, `values to write as ${format}`, 'a float format');
}
