import { shapeText, sizeOf } from '../core/shape.js';
import { Place, quoted } from './checked.js';
import type { Quantization } from './quantization.js';
import { type TensorEntry, TensorTable } from './tensor-file.js';

/** Ends of the names of a matrix's scales: DeepSeek-V3 and transformers, others. */
const SCALES = ['_scale_inv', '_scale'];
/** Scales of activations and of a cache in FP8, which are not kept in FP8 here. */
const UNUSED = /\.(input|activation|output|[kqv])_scale$/;

/**
 * FP8 E4M3 (`F8_E4M3`) lies in two tensors: NAME [.., rows, columns] holds the codes, NAME_scale_inv or NAME_scale what they
 * are multiplied with. It is one number, one a row, or one for each block of a matrix. They become one tensor.
 * @throws SwitchyardError ERR_FORMAT for scales of another shape, and for codes without any where the config speaks of FP8;
 *   ERR_UNSUPPORTED for scales of another type
 */
export function joinFloat8(table: TensorTable, quantization: Quantization | null): TensorTable {
  const expected = quantization?.method === 'float8';
  const joined = new Map<string, TensorEntry>();
  const absorbed = new Set<string>();
  for (const entry of table) {
    if (expected && UNUSED.test(entry.name)) absorbed.add(entry.name);
    if (entry.format !== 'f8_e4m3') continue;
    const scales = SCALES.map((end) => table.find(entry.name + end)).find((found) => found !== undefined);
    if (scales) {
      joined.set(entry.name, { ...entry, grid: gridOf(entry, scales, quantization?.block ?? null) });
      absorbed.add(scales.name);
    } else if (expected) {
      throw placeOf(entry).format('FP8 without scales', `a tensor ${entry.name}${SCALES[0]} beside it`);
    }
  }
  if (joined.size === 0 && absorbed.size === 0) return table;
  const left = [...table].filter(({ name }) => !absorbed.has(name));
  return new TensorTable(
    table.source,
    left.map((entry) => joined.get(entry.name) ?? entry),
  );
}

const placeOf = ({ path, name }: TensorEntry): Place => new Place(path, `tensor ${quoted(name)}`);

/** Which values share a scale follows from the shape of the scales: blocks where a block size is known, else rows or all. */
function gridOf(
  { name, shape }: TensorEntry,
  scales: TensorEntry,
  block: Quantization['block'],
): TensorEntry['grid'] {
  const [rows = 1, columns = 1] = shape.slice(-2);
  const outer = shape.slice(0, -2);
  const { path, offset, bytes, format } = scales;
  if (format !== 'f32' && format !== 'f16' && format !== 'bf16')
    throw placeOf(scales).unsupported(`scales of type ${format}`, 'f32, f16 or bf16');
  const forms: [number[], number, number][] = [
    [[...outer, 1, 1], rows, columns],
    [[...outer, rows, 1], 1, columns],
  ];
  if (block) {
    const [high, wide] = block;
    forms.unshift([[...outer, Math.ceil(rows / high), Math.ceil(columns / wide)], high, wide]);
  }
  // one number for a tensor is stored as [] or [1], one a row as [rows] or [rows, 1]
  const long = (sizes: readonly number[]): string => sizes.filter((size) => size !== 1).join();
  const form = forms.find(([sizes]) => long(sizes) === long(scales.shape));
  if (form === undefined || sizeOf(scales.shape) !== sizeOf(form[0]))
    throw placeOf(scales).format(
      `shape ${shapeText(scales.shape)}`,
      `${forms.map(([sizes]) => shapeText(sizes)).join(' or ')} for ${name} ${shapeText(shape)}`,
      block ? undefined : 'blocks of scales need a weight_block_size in config.json',
    );
  const [, blockRows, blockColumns] = form;
  return { path, offset, bytes, format, blockRows, blockColumns };
}
