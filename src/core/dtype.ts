/** dtypes of tensors. The order is part of the program format (native/runtime/types.h). */
export const DTYPES = ['f32', 'f16', 'bf16', 'i32', 'u32', 'u8', 'bool'] as const;
export type DType = (typeof DTYPES)[number];

const SIZES: Record<DType, number> = { f32: 4, f16: 2, bf16: 2, i32: 4, u32: 4, u8: 1, bool: 1 };

export type TypedArray = Float32Array | Int32Array | Uint32Array | Uint16Array | Uint8Array;

export const dtypeSize = (dtype: DType): number => SIZES[dtype];
export const dtypeCode = (dtype: DType): number => DTYPES.indexOf(dtype);
export const isFloat = (dtype: DType): boolean => dtype === 'f32' || dtype === 'f16' || dtype === 'bf16';

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
