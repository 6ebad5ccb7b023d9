/** dtypes of tensors. The order is part of the program format (native/runtime/types.h). */
export const DTYPES = ['f32', 'f16', 'bf16', 'i32', 'u32', 'u8', 'bool'] as const;
export type DType = (typeof DTYPES)[number];

const SIZES: Record<DType, number> = { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, u8: 1, bool: 1 };

export type TypedArray = Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array;

export const dtypeSize = (dtype: DType): number => SIZES[dtype];
export const dtypeCode = (dtype: DType): number => DTYPES.indexOf(dtype);
export const isFloat = (dtype: DType): boolean => dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';

/** A number as the float dtype holds it, nearest even: f16 and bf16 constants in fused code must not be finer. */
export function roundTo(dtype: DType, x: number): number {
  if (dtype === 'f32' || x === 0 || !Number.isFinite(x)) return Math.fround(x);
  const [digits, lowest, largest] = dtype === 'f16' ? [10, -14, 65504] : [7, -126, 2 ** 128 - 2 ** 120];
  const exponent = Math.max(Math.floor(Math.log2(Math.abs(x))), lowest);
  const unit = 2 ** (exponent - digits);
  const below = Math.floor(x / unit);
  const rest = x / unit - below;
  const y = (rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below) * unit;
  return Math.abs(y) > largest ? Math.sign(x) * Infinity : y;
}

/** The array type that holds a dtype's elements; f16 and bf16 come as their 16 bits. */
export function arrayOf(dtype: DType, size: number): TypedArray {
  switch (dtype) {
    case 'f32':
      return new Float32Array(size);
    case 'f16':
    case 'bf16':
      return new Uint16Array(size);
    case 'i32':
      return new Int32Array(size);
    case 'u32':
      return new Uint32Array(size);
    default:
      return new Uint8Array(size);
  }
}
