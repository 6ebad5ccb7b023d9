/** Values of the float64 interpreter: every dtype as numbers in a Float64Array. */
import type { DType, TypedArray } from '../../../src/core/dtype.js';
import type { Shape } from '../../../src/core/shape.js';

export interface Value {
  readonly dtype: DType;
  readonly shape: Shape;
  readonly data: Float64Array;
}

/** A dequantised weight, experts × [rows, columns]. */
export interface WeightValue {
  readonly experts: number;
  readonly rows: number;
  readonly columns: number;
  readonly data: Float64Array;
}

const scratch = new DataView(new ArrayBuffer(8));

export function fromHalf(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24);
}
export function fromBFloat(bits: number): number {
  scratch.setUint32(0, bits * 0x10000);
  return scratch.getFloat32(0);
}

/** Rounds to the nearest multiple of `unit`, halves to even. */
function roundTo(x: number, unit: number): number {
  const n = x / unit; // exact: unit is a power of two
  const low = Math.floor(n);
  const rest = n - low;
  return unit * (rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low);
}
function roundFloat(x: number, digits: number, smallest: number, largest: number): number {
  if (x === 0 || !Number.isFinite(x)) return x;
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), smallest);
  const y = roundTo(x, 2 ** (exponent - digits));
  return Math.abs(y) > largest ? Math.sign(x) * Infinity : y;
}
export const roundHalf = (x: number): number => roundFloat(x, 10, -14, 65504);
export const roundBFloat = (x: number): number => roundFloat(x, 7, -126, 3.3895313892515355e38);

export function halfBits(x: number): number {
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  if (Number.isNaN(x)) return 0x7e00;
  const y = Math.abs(roundHalf(x));
  if (y === Infinity) return sign | 0x7c00;
  if (y < 2 ** -14) return sign | (y * 2 ** 24);
  const exponent = Math.floor(Math.log2(y));
  return sign | ((exponent + 15) << 10) | ((y / 2 ** exponent - 1) * 1024);
}
export function bfloatBits(x: number): number {
  scratch.setFloat32(0, roundBFloat(x));
  return scratch.getUint32(0) >>> 16;
}

/** What a number becomes when it is stored in a dtype. f32 stays exact: the interpreter is the reference of f32. */
export function stored(dtype: DType, x: number): number {
  switch (dtype) {
    case 'f16':
      return roundHalf(x);
    case 'bf16':
      return roundBFloat(x);
    case 'i32':
      return x | 0;
    case 'u32':
      return x >>> 0;
    case 'u8':
      return x & 255;
    case 'bool':
      return x ? 1 : 0;
    default:
      return x;
  }
}

/** The numbers behind the array of a tensor's values. */
export function decode(dtype: DType, array: TypedArray): Float64Array {
  if (dtype === 'f16') return Float64Array.from(array, fromHalf);
  if (dtype === 'bf16') return Float64Array.from(array, fromBFloat);
  return Float64Array.from(array);
}

/** For every flat index of `out`: the flat index in a tensor of `shape` that broadcasts to it. */
export function broadcastIndex(shape: Shape, out: Shape): Int32Array {
  const size = out.reduce((a, b) => a * b, 1);
  const index = new Int32Array(size);
  let inner = 1; // elements of `out` behind the axis
  let step = 1; // elements of `shape` behind it
  for (let axis = out.length - 1; axis >= 0; axis--) {
    const n = out[axis] as number;
    const own = shape[axis - (out.length - shape.length)] ?? 1;
    if (own !== 1) for (let i = 0; i < size; i++) index[i] += (Math.floor(i / inner) % n) * step;
    inner *= n;
    step *= own;
  }
  return index;
}
