/** Packed weights of every format from seeded bytes. */
import { LAYOUTS } from '../../bench/harness/random-weights.js';
import { defaultDevice } from '../../src/core/device.js';
import { isStoredFormat, type WeightFormat } from '../../src/core/format.js';
import { Weight } from '../../src/core/weight.js';
import { bfloatBits, halfBits } from './interpreter/value.js';
import { generator } from './random.js';

export interface WeightSpec {
  readonly kind: 'weight';
  readonly format: WeightFormat;
  readonly experts: number;
  readonly rows: number;
  readonly columns: number;
}

/** Values that are stored together. */
export const valuesPerBlock = (format: WeightFormat): number =>
  isStoredFormat(format) ? LAYOUTS[format].values : 1;

/** The bytes of a checkpoint that hold the weight: floats around zero, or blocks of any codes with small scales. */
export function storedBytes(
  { format, experts, rows, columns }: Omit<WeightSpec, 'kind'>,
  seed: number,
): Uint8Array {
  const next = generator(seed);
  const count = experts * rows * columns;
  const block = isStoredFormat(format) ? LAYOUTS[format] : null;
  if (block && block.values > 1) {
    const bytes = new Uint8Array((count / block.values) * block.bytes);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < bytes.length; i++) bytes[i] = next() * 256;
    for (let at = 0; at < bytes.length; at += block.bytes) {
      if (block.exponent !== undefined) bytes[at + block.exponent] = 116 + next() * 8;
      for (const scale of block.scales) view.setUint16(at + scale, halfBits((next() - 0.3) * 0.02), true);
    }
    return bytes;
  }
  // No NaN; without scales, so small ones: below 1.
  if (format === 'f8_e4m3') return Uint8Array.from({ length: count }, () => (next() * 256) & 0xb7);
  const numbers = Array.from({ length: count }, () => next() * 2 - 1);
  const array =
    format === 'f32'
      ? Float32Array.from(numbers)
      : Uint16Array.from(numbers, format === 'f16' ? halfBits : bfloatBits);
  return new Uint8Array(array.buffer);
}

export async function packWeight(spec: WeightSpec, seed = 1): Promise<Weight> {
  const device = defaultDevice();
  const { format, experts, rows, columns } = spec;
  const stored = isStoredFormat(format) ? format : 'f32';
  const data = storedBytes({ ...spec, format: stored }, seed);
  const native = await device.addon.packWeight(device.native, {
    format: stored,
    as: format,
    experts,
    rows,
    columns,
    parts: [{ data, offset: 0, bytes: data.length }],
  });
  return new Weight(native, format, experts, rows, columns, device.addon.weightInfo(native).bytes);
}
