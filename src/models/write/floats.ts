/** Numbers as the bytes of float formats, nearest even. */
export type FloatFormat = 'f32' | 'f16' | 'bf16';

export const FLOAT_FORMATS: readonly FloatFormat[] = ['f32', 'f16', 'bf16'];

export const isFloatFormat = (format: string): format is FloatFormat =>
  (FLOAT_FORMATS as readonly string[]).includes(format);

export const floatBytes: Readonly<Record<FloatFormat, number>> = { f32: 4, f16: 2, bf16: 2 };

export function encodeFloats(values: Float32Array, format: FloatFormat): Uint8Array {
  if (format === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const encoded = new Uint16Array(values.length);
  const encode = format === 'bf16' ? bfloatBits : halfBits;
  for (let i = 0; i < bits.length; i++) encoded[i] = encode(bits[i]);
  return new Uint8Array(encoded.buffer);
}

/** Whether every value is one of the format's own. */
export function fitsFormat(values: Float32Array, format: FloatFormat): boolean {
  if (format === 'f32') return true;
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (format === 'bf16') return bits.every((word) => (word & 0xffff) === 0);
  return values.every((value, i) => Object.is(halfValue(halfBits(bits[i])), value) || Number.isNaN(value));
}

/** @param bits of a float32 */
function bfloatBits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

function halfBits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const size = bits & 0x7fffffff;
  if (size > 0x7f800000) return sign | 0x7e00;
  // 65520 and more round to infinity.
  if (size >= 0x477ff000) return sign | 0x7c00;
  if (size < 0x38800000) {
    // Below 2^-14: a count of 2^-24. Scaled by a power of two the value is exact; its rounding is that of the count.
    scratch.setUint32(0, size);
    return sign | roundEven(scratch.getFloat32(0) * 2 ** 24);
  }
  const rounded = size + 0xfff + ((size >>> 13) & 1);
  return sign | ((rounded >>> 13) - (112 << 10));
}

const scratch = new DataView(new ArrayBuffer(4));

function roundEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}

function halfValue(half: number): number {
  const exponent = (half >>> 10) & 31;
  const fraction = half & 1023;
  const size =
    exponent === 31
      ? Infinity
      : exponent === 0
        ? fraction * 2 ** -24
        : (1024 + fraction) * 2 ** (exponent - 25);
  return half & 0x8000 ? -size : size;
}
