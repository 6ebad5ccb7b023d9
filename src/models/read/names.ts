/**
 * How the tensors of a checkpoint hold our parts: a table of plain data per family, read in both directions. Reading finds
 * where each part lies; a writer walks the same entries and puts the parts together.
 */
import { SwitchyardError } from '../../core/errors.js';
import type { Part } from '../decoder/parameters.js';

/** One tensor, or one for each layer {i}, or for each layer and expert {i}, {e}. */
export interface StoredAs {
  /** Its name in the checkpoint. */
  readonly tensor: string;
  /** Names of the parts that it holds, their rows one after another. A part of a name with ᵀ at its end lies transposed. */
  readonly parts: readonly string[];
  /** The parts take turns: so many runs of rows of each (heads, or single rows). Default 1: all rows of each. */
  readonly turns?: number;
  /** All of it is stored [columns, rows]: the layout (in, out). */
  readonly transposed?: boolean;
  /** The experts of a stack lie in the rows of one matrix [experts · rows, columns]. */
  readonly flat?: boolean;
  /** A vector lies as a matrix of one row. */
  readonly row?: boolean;
}

/** Where two entries hold a part, the first counts whose tensor a file has; a writer takes the first. */
export type NameTable = readonly StoredAs[];

/**
 * Entries for parts whose weight and bias are tensors of one name each, with .weight and .bias at their ends. Keys and values
 * come without these, and after the two prefixes.
 */
export function named(pairs: Readonly<Record<string, string>>, ours = '', theirs = ''): NameTable {
  return Object.entries(pairs).flatMap(([part, tensor]) =>
    ['.weight', '.bias'].map((end) => ({
      tensor: `${theirs}${tensor}${end}`,
      parts: [`${ours}${part}${end}`],
    })),
  );
}

/** The same for parts that share a tensor, as `named`. */
export function fused(
  tensor: string,
  parts: readonly string[],
  options: Omit<StoredAs, 'tensor' | 'parts'> = {},
): NameTable {
  const { transposed, ...others } = options;
  return ['.weight', '.bias'].map((end) => ({
    tensor: tensor + end,
    parts: parts.map((part) => part + end),
    ...others,
    // a bias has nothing to transpose
    ...(transposed && end === '.weight' ? { transposed } : {}),
  }));
}

/** The entries whose tensors have a prefix, without it: files of a bare model lack the name of their wrapper. */
export const withoutPrefix = (table: NameTable, prefix: string): NameTable =>
  table
    .filter(({ tensor }) => tensor.startsWith(prefix))
    .map((entry) => ({ ...entry, tensor: entry.tensor.slice(prefix.length) }));

/** Rows of a part in one tensor. Offsets and strides count elements. */
export interface Place {
  readonly tensor: string;
  /** The shape that the tensor must have. */
  readonly shape: readonly number[];
  readonly offset: number;
  readonly rows: number;
  readonly rowStride: number;
  readonly columnStride: number;
}

interface Found {
  readonly entry: StoredAs;
  /** What stands for {i}. */
  readonly layer: string;
}

const TRANSPOSED = 'ᵀ';
const plain = (name: string): string => name.replace(TRANSPOSED, '');

/** The parts of one model in one file. */
export class StoredNames {
  readonly #entries = new Map<string, StoredAs[]>();
  readonly #parts: ReadonlyMap<string, Part>;

  constructor(
    readonly table: NameTable,
    parts: readonly Part[],
    readonly has: (tensor: string) => boolean,
  ) {
    this.#parts = new Map(parts.map((part) => [part.name, part]));
    for (const entry of table)
      for (const name of entry.parts) {
        const list = this.#entries.get(plain(name)) ?? [];
        this.#entries.set(plain(name), [...list, entry]);
      }
  }

  /** Names of the tensors that hold a part, in the order of its experts. */
  tensorsOf(part: Part): string[] {
    const found = this.#find(part);
    const { tensor } = found.entry;
    if (!tensor.includes('{e}')) return [tensorName(found)];
    return Array.from({ length: part.shape[0] as number }, (_, e) => tensorName(found, e));
  }

  /** Where a part lies: runs of rows, in the order of its experts and rows. */
  *placesOf(part: Part): Generator<Place> {
    const found = this.#find(part);
    const { entry } = found;
    const layout = this.#layout(part, found);
    const { experts, shape, blockRows, blockColumns, each } = layout;
    for (let e = 0; e < experts; e++) {
      const tensor = tensorName(found, e);
      const start = each ? 0 : e * blockRows * blockColumns;
      for (const { row, rows, rowStep } of layout.runs) {
        // (row, column) of the block that all parts of the tensor make
        const [down, across] = entry.transposed ? [1, blockRows] : [blockColumns, 1];
        const [rowStride, columnStride] = layout.turned ? [across, down] : [rowStep * down, across];
        yield { tensor, shape, offset: start + row * down, rows, rowStride, columnStride };
      }
    }
  }

  #find({ name }: Part): Found {
    const layer = /\.(\d+)\./.exec(name)?.[1] ?? '';
    const entries = this.#entries.get(name.replace(/\.\d+\./, '.{i}.'));
    if (!entries)
      throw new SwitchyardError(
        'ERR_UNSUPPORTED',
        `[load] got a model with the part ${name}, expected only parts that its kind of file has a name for`,
      );
    const there = entries.find((entry) => this.has(tensorName({ entry, layer })));
    return { entry: there ?? (entries[0] as StoredAs), layer };
  }

  #layout(part: Part, { entry, layer }: Found) {
    const { turns = 1, transposed = false, flat = false, row = false } = entry;
    const stacked = part.shape.length === (part.kind === 'matrix' ? 3 : 2);
    const each = entry.tensor.includes('{e}');
    const experts = stacked ? (part.shape[0] as number) : 1;
    let blockRows = 0;
    let blockColumns = 1;
    let own = { first: 0, rows: 0, turned: false };
    for (const name of entry.parts) {
      const other = this.#parts.get(plain(name).replace('{i}', layer));
      if (!other) throw this.#broken(part, entry, `no part ${name} beside it`);
      const [rows = 0, columns = 1] = other.shape.slice(stacked ? 1 : 0);
      const turned = name.endsWith(TRANSPOSED);
      if (rows % turns !== 0) throw this.#broken(part, entry, `${rows} rows for ${turns} turns`);
      const [height, width] = turned ? [columns, rows] : [rows, columns];
      if (other.name === part.name) own = { first: blockRows, rows, turned };
      blockRows += height;
      blockColumns = width;
    }
    return {
      experts,
      each,
      blockRows,
      blockColumns,
      turned: own.turned,
      runs: runsOf(own, blockRows, turns),
      shape: shapeOf(part, { stacked: stacked && !each, flat, transposed, row }, [
        experts,
        blockRows,
        blockColumns,
      ]),
    };
  }

  #broken({ name }: Part, { tensor }: StoredAs, got: string): SwitchyardError {
    return new SwitchyardError('ERR_FORMAT', `[${name}] got ${got}, expected those of ${tensor}`);
  }
}

const tensorName = ({ entry, layer }: Found, expert = 0): string =>
  entry.tensor.replace('{i}', layer).replace('{e}', String(expert));

interface Run {
  /** First row in the block. */
  readonly row: number;
  /** Rows of the part. */
  readonly rows: number;
  /** Rows of the block from one row of the part to the next. */
  readonly rowStep: number;
}

function runsOf(
  { first, rows, turned }: { first: number; rows: number; turned: boolean },
  all: number,
  turns: number,
): Run[] {
  if (turns === 1 || turned) return [{ row: first, rows, rowStep: 1 }];
  const own = rows / turns;
  const at = first / turns;
  // single rows that alternate are one run with a wider step
  if (own === 1) return [{ row: at, rows, rowStep: all / turns }];
  return Array.from({ length: turns }, (_, t) => ({ row: (t * all) / turns + at, rows: own, rowStep: 1 }));
}

function shapeOf(
  { kind }: Part,
  { stacked, flat, transposed, row }: { stacked: boolean; flat: boolean; transposed: boolean; row: boolean },
  [experts, rows, columns]: [number, number, number],
): number[] {
  const block = kind === 'vector' ? [rows] : transposed ? [columns, rows] : [rows, columns];
  if (!stacked) return row ? [1, ...block] : block;
  return flat ? [experts * rows, columns] : [experts, ...block];
}
