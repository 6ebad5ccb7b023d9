/** The bytes of one tensor, in pieces of bounded size where its rows lie one after another. */
import { type StorageFormat, storageFormats } from '../../checkpoint/tensor-file.js';
import { mismatch } from '../../core/errors.js';
import { sizeOf } from '../../core/shape.js';
import { floatBytes, isFloatFormat } from './floats.js';
import type { PartValues } from './part-values.js';
import { columnsOf, isRowMajor, type Piece, type TensorPlan } from './tensor-plan.js';

const PIECE_BYTES = 1 << 20;

export function tensorBytes(
  plan: TensorPlan,
  values: PartValues,
  format: StorageFormat,
): AsyncIterable<Uint8Array> {
  return plan.pieces.every(isRowMajor) ? inOrder(plan, values, format) : scattered(plan, values, format);
}

async function* inOrder({ name, pieces }: TensorPlan, values: PartValues, format: StorageFormat) {
  let at = 0;
  for (const { part, first, place } of pieces.toSorted((a, b) => a.place.offset - b.place.offset)) {
    if (place.offset !== at)
      throw mismatch('ERR_UNSUPPORTED', name, `a gap before element ${place.offset}`, 'none');
    const columns = columnsOf(part);
    const rowBytes = bytesOf(columns, format);
    const most = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
    for (let row = 0; row < place.rows; row += most)
      yield await values.rows(part, first + row, Math.min(most, place.rows - row), format);
    at += place.rows * columns;
  }
}

/** Transposed tensors and rows that take turns: put together in memory. */
async function* scattered({ name, shape, pieces }: TensorPlan, values: PartValues, format: StorageFormat) {
  if (!isFloatFormat(format))
    throw mismatch('ERR_UNSUPPORTED', name, `${format} in another order`, 'a float format');
  const size = floatBytes[format];
  const whole = new Uint8Array(sizeOf(shape) * size);
  for (const piece of pieces)
    scatter(whole, piece, await values.rows(piece.part, piece.first, piece.place.rows, format), size);
  yield whole;
}

function scatter(whole: Uint8Array, { part, place }: Piece, rows: Uint8Array, size: number): void {
  const columns = columnsOf(part);
  const Unit = size === 4 ? Uint32Array : Uint16Array;
  // A copy: pieces of pooled buffers may begin at any byte.
  const from = new Unit(new Uint8Array(rows).buffer);
  const to = new Unit(whole.buffer as ArrayBuffer);
  for (let row = 0; row < place.rows; row++)
    for (let column = 0; column < columns; column++)
      to[place.offset + row * place.rowStride + column * place.columnStride] = from[row * columns + column];
}

function bytesOf(columns: number, format: StorageFormat): number {
  const { valuesPerBlock, bytesPerBlock } = storageFormats[format];
  return (columns / valuesPerBlock) * bytesPerBlock;
}
