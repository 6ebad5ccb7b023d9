/** Which tensors a checkpoint has, and which rows of which parts each of them holds. */
import { mismatch } from '../../core/errors.js';
import { sizeOf } from '../../core/shape.js';
import type { Part } from '../decoder/parameters.js';
import type { Place, StoredNames } from '../read/names.js';

/** Rows of a part, counted over its experts, that lie at a place of the tensor. */
export interface Piece {
  readonly part: Part;
  readonly first: number;
  readonly place: Place;
}

export interface TensorPlan {
  readonly name: string;
  readonly shape: readonly number[];
  readonly pieces: readonly Piece[];
}

/** Columns of a row: a vector is rows of one value. */
export const columnsOf = ({ kind, shape }: Part): number =>
  kind === 'matrix' ? (shape.at(-1) as number) : 1;

/** The tensors of a checkpoint in the order in which its parts first need them. */
export function planTensors(parts: readonly Part[], names: StoredNames): TensorPlan[] {
  const tensors = new Map<string, { shape: readonly number[]; pieces: Piece[] }>();
  for (const part of parts) {
    let first = 0;
    for (const place of names.placesOf(part)) {
      const tensor = tensors.get(place.tensor) ?? { shape: place.shape, pieces: [] };
      tensor.pieces.push({ part, first, place });
      tensors.set(place.tensor, tensor);
      first += place.rows;
    }
  }
  return [...tensors].map(([name, { shape, pieces }]) => {
    const values = pieces.reduce((sum, { part, place }) => sum + place.rows * columnsOf(part), 0);
    if (values !== sizeOf(shape))
      throw mismatch(
        'ERR_UNSUPPORTED',
        name,
        `${values} values`,
        `${sizeOf(shape)}: parts for all of the tensor`,
      );
    return { name, shape, pieces };
  });
}

/** Rows one after another, which can be written as they come. */
export const isRowMajor = ({ part, place }: Piece): boolean =>
  place.columnStride === 1 && (place.rowStride === columnsOf(part) || place.rows === 1);
