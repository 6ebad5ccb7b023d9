import { storageFormats, type TensorEntry } from '../../checkpoint/tensor-file.js';
import type { ScaleGrid } from '../../core/addon.js';
import { isStoredFormat, type StoredFormat } from '../../core/format.js';
import type { Place } from './names.js';

/** Values of a row that share a scale of f8_e4m3 once packed (native/formats/format_table.h). */
const GROUP = 128;

/** Rows one after another, each with its values side by side. */
export const isDense = ({ rows, rowStride, columnStride }: Place, columns: number): boolean =>
  columnStride === 1 && (rowStride === columns || rows === 1);

/**
 * The format that a place of a tensor is packed in: its own, but f32 where the values that share a scale do not lie along its
 * rows: blocks that lie transposed (the keys' half of a fused kv_b), scales of FP8 that change within a group.
 */
export function packedFormat(entry: TensorEntry, place: Place, columns: number): StoredFormat | undefined {
  const { format, grid } = entry;
  if (!isStoredFormat(format)) return undefined;
  if (format === 'f8_e4m3') return grid && !hasWholeGroups(entry, grid, place, columns) ? 'f32' : format;
  const blocks = storageFormats[format].valuesPerBlock > 1;
  // the scales of mxfp4 apart may go with any rows
  return blocks && !entry.scales && !isDense(place, columns) ? 'f32' : format;
}

function hasWholeGroups(
  { shape }: TensorEntry,
  { blockRows, blockColumns }: NonNullable<TensorEntry['grid']>,
  { offset, rowStride, columnStride }: Place,
  columns: number,
): boolean {
  const [high = 1, wide = 1] = shape.slice(-2);
  const fits = (first: number, block: number): boolean =>
    (block % GROUP === 0 && first % GROUP === 0) || (first % block) + columns <= block;
  if (columnStride === 1) return rowStride % wide === 0 && fits(offset % wide, blockColumns);
  if (columnStride !== wide) return false;
  const first = Math.floor(offset / wide) % high;
  return first + columns <= high && fits(first, blockRows);
}

/** Where the scales of a part lie that begins with the value `first` of its tensor. */
export function scaleGrid({ shape, grid }: TensorEntry, first: number): ScaleGrid | undefined {
  if (!grid) return undefined;
  const [rows = 1, columns = 1] = shape.slice(-2);
  return { ...grid, rows, columns, first };
}
