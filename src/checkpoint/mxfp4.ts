import { type TensorEntry, TensorTable } from './tensor-file.js';

const CODES = '_blocks';
const SCALES = '_scales';
/** Bytes of codes for 32 values that share a scale. */
const BLOCK_BYTES = 16;
const BLOCK_VALUES = 32;

/**
 * transformers stores a matrix of MXFP4 as two tensors of bytes: NAME_blocks [.., rows, K/32, 16] holds the codes, two
 * neighbours in a byte, NAME_scales [.., rows, K/32] the exponents. They become one tensor NAME_blocks [.., rows, K] of
 * format mxfp4.
 */
export function joinMxfp4(table: TensorTable): TensorTable {
  const joined = new Map<string, TensorEntry>();
  const absorbed = new Set<string>();
  for (const entry of table) {
    const scales = scalesOf(entry, table);
    if (!scales) continue;
    const outer = scales.shape.slice(0, -1);
    const columns = (scales.shape.at(-1) as number) * BLOCK_VALUES;
    const { path, offset, bytes } = scales;
    joined.set(entry.name, {
      ...entry,
      shape: [...outer, columns],
      format: 'mxfp4',
      scales: { path, offset, bytes },
    });
    absorbed.add(scales.name);
  }
  if (joined.size === 0) return table;
  const left = [...table].filter(({ name }) => !absorbed.has(name));
  return new TensorTable(
    table.source,
    left.map((entry) => joined.get(entry.name) ?? entry),
  );
}

function scalesOf({ name, format, shape }: TensorEntry, table: TensorTable): TensorEntry | undefined {
  if (!name.endsWith(CODES) || format !== 'u8' || shape.length < 3 || shape.at(-1) !== BLOCK_BYTES)
    return undefined;
  const scales = table.find(name.slice(0, -CODES.length) + SCALES);
  const fits =
    scales?.format === 'u8' &&
    scales.shape.length === shape.length - 1 &&
    scales.shape.every((size, i) => size === shape[i]);
  return fits ? scales : undefined;
}
