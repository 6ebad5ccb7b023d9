/** Weights with random bits in any format, for cases that need sizes and not meaning. */
import type { Device } from '../../src/core/device.js';
import {
  type ComputeMode,
  isQuantized,
  isStoredFormat,
  isWeightFormat,
  type StoredFormat,
  WEIGHT_FORMATS,
  type WeightFormat,
} from '../../src/core/format.js';
import { Weight } from '../../src/core/weight.js';

interface Layout {
  /** Values and bytes of a stored block. */
  readonly values: number;
  readonly bytes: number;
  /** Byte offsets of its 16-bit scales. */
  readonly scales: readonly number[];
  /** Byte offset of an 8-bit scale, a power of two. */
  readonly exponent?: number;
}

/** Stored blocks of GGUF files. */
export const LAYOUTS: Readonly<Record<StoredFormat, Layout>> = {
  f32: { values: 1, bytes: 4, scales: [] },
  f16: { values: 1, bytes: 2, scales: [] },
  bf16: { values: 1, bytes: 2, scales: [] },
  q8_0: { values: 32, bytes: 34, scales: [0] },
  q4_0: { values: 32, bytes: 18, scales: [0] },
  q4_1: { values: 32, bytes: 20, scales: [0, 2] },
  q5_0: { values: 32, bytes: 22, scales: [0] },
  q5_1: { values: 32, bytes: 24, scales: [0, 2] },
  q2_k: { values: 256, bytes: 84, scales: [80, 82] },
  q3_k: { values: 256, bytes: 110, scales: [108] },
  q4_k: { values: 256, bytes: 144, scales: [0, 2] },
  q5_k: { values: 256, bytes: 176, scales: [0, 2] },
  q6_k: { values: 256, bytes: 210, scales: [208] },
  iq4_nl: { values: 32, bytes: 18, scales: [0] },
  iq4_xs: { values: 256, bytes: 136, scales: [0] },
  mxfp4: { values: 32, bytes: 17, scales: [], exponent: 0 },
  tq1_0: { values: 256, bytes: 54, scales: [52] },
  tq2_0: { values: 256, bytes: 66, scales: [64] },
  f8_e4m3: { values: 1, bytes: 1, scales: [] },
};
const SMALL_F16 = 0x1400; // 2^-10
const SMALL_EXPONENT = 120;

/** A generator of 32 random bits, the same for the same seed (Marsaglia 2003). */
function xorshift(seed: number): () => number {
  let x = seed | 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return x >>> 0;
  };
}

/** Random normal-sized values as stored bytes of `values` values. */
export function randomBytes(format: StoredFormat, values: number, seed = 1): Uint8Array {
  const { values: per, bytes, scales, exponent } = LAYOUTS[format];
  const out = new Uint8Array((values / per) * bytes);
  const next = xorshift(seed);
  if (format === 'f32') {
    const floats = new Float32Array(out.buffer);
    for (let i = 0; i < floats.length; i++) floats[i] = (next() / 2 ** 32 - 0.5) * 0.05;
    return out;
  }
  const words = new Uint32Array(out.buffer, 0, out.length >> 2);
  for (let i = 0; i < words.length; i++) words[i] = next();
  if (format === 'f16' || format === 'bf16') {
    // Sign and fraction random, exponents about 2^-6: no infinities, no zeros.
    const halves = new Uint16Array(out.buffer);
    const [keep, exponent] = format === 'f16' ? [0x83ff, 0x2400] : [0x807f, 0x3c80];
    for (let i = 0; i < halves.length; i++) halves[i] = ((halves[i] as number) & keep) | exponent;
    return out;
  }
  // Without scales: of either sign, from 2^-6 to 2^-5. Smaller ones, which are subnormal, are rare where scales fill the range.
  if (format === 'f8_e4m3') return out.map((code) => (code & 0x87) | 0x08);
  const view = new DataView(out.buffer);
  for (let at = 0; at < out.length; at += bytes) {
    if (exponent !== undefined) out[at + exponent] = SMALL_EXPONENT;
    for (const s of scales) view.setUint16(at + s, SMALL_F16, true);
  }
  return out;
}

/** `experts` matrices [rows, columns] of random bits; columns a multiple of 256. */
export async function randomWeight(
  device: Device,
  format: WeightFormat,
  rows: number,
  columns: number,
  experts = 1,
): Promise<Weight> {
  // Formats that files do not have are quantised from values.
  const stored = isStoredFormat(format) ? format : 'bf16';
  const data = randomBytes(stored, rows * columns);
  const parts = Array.from({ length: experts }, () => ({ data, offset: 0, bytes: data.byteLength }));
  const source = { format: stored, as: format, experts, rows, columns, parts };
  const native = await device.addon.packWeight(device.native, source);
  return new Weight(native, format, experts, rows, columns, device.addon.weightInfo(native).bytes);
}

export function randomValues(size: number, seed = 7): Float32Array {
  const next = xorshift(seed);
  return Float32Array.from({ length: size }, () => (next() / 2 ** 32 - 0.5) * 2);
}

/** How a format computes by default, as loadModel's 'auto' has it. */
export const computeOf = (format: WeightFormat): ComputeMode => (isQuantized(format) ? 'int8' : 'f32');

/** @throws Error for a name that is no weight format */
export function checkFormats(names: readonly string[], otherwise: readonly WeightFormat[]): WeightFormat[] {
  const wrong = names.find((name) => !isWeightFormat(name));
  if (wrong !== undefined)
    throw new Error(`[bench] got format '${wrong}', expected one of ${WEIGHT_FORMATS.join(', ')}`);
  return names.length > 0 ? (names as WeightFormat[]) : [...otherwise];
}
