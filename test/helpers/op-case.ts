/** Cases of ops: descriptions of inputs that a seeded generator fills. */
import { type DType, isFloat, type TypedArray } from '../../src/core/dtype.js';
import type { WeightFormat } from '../../src/core/format.js';
import { type Attrs, type OpInput, opTable } from '../../src/core/op.js';
import { type Shape, sizeOf } from '../../src/core/shape.js';
import { Tensor } from '../../src/core/tensor.js';
import { bfloatBits, halfBits } from './interpreter/value.js';
import { generator } from './random.js';
import type { Tolerance } from './tolerance.js';
import { packWeight, type WeightSpec } from './weights.js';

export interface TensorSpec {
  readonly kind: 'tensor';
  readonly dtype: DType;
  readonly shape: Shape;
  /** Random numbers in [low, high); whole ones for whole dtypes. */
  readonly low: number;
  readonly high: number;
  /** Instead of random numbers. */
  readonly values?: readonly number[];
}
export type InputSpec = TensorSpec | WeightSpec | null;

export interface CaseOptions {
  /** Compared with central differences. Default: the op is differentiable and no float input is f16 or bf16. */
  readonly gradient?: boolean;
  /** Float inputs that the gradient rule takes as constants. */
  readonly constants?: readonly number[];
  readonly tolerance?: Tolerance;
}

export interface OpCase extends CaseOptions {
  readonly op: string;
  readonly name: string;
  readonly inputs: readonly InputSpec[];
  readonly attrs: Attrs;
}

const spec = (dtype: DType, shape: Shape, low: number, high: number): TensorSpec => ({
  kind: 'tensor',
  dtype,
  shape,
  low,
  high,
});
export const f32 = (shape: Shape, low = -2, high = 2): TensorSpec => spec('f32', shape, low, high);
export const i32 = (shape: Shape, low: number, high: number): TensorSpec => spec('i32', shape, low, high);
export const bool = (shape: Shape): TensorSpec => spec('bool', shape, 0, 2);
export const ofType = (dtype: DType, shape: Shape, low = -2, high = 2): TensorSpec =>
  spec(
    dtype,
    shape,
    dtype === 'u32' || dtype === 'u8' ? Math.max(low, 0) : dtype === 'bool' ? 0 : low,
    dtype === 'bool' ? 2 : high,
  );
export const literal = (
  dtype: DType,
  values: readonly number[],
  shape: Shape = [values.length],
): TensorSpec => ({
  ...spec(dtype, shape, 0, 0),
  values,
});
export const ids = (...values: number[]): TensorSpec => literal('i32', values);
export const weight = (
  rows: number,
  columns: number,
  format: WeightFormat = 'f32',
  experts = 1,
): WeightSpec => ({
  kind: 'weight',
  format,
  experts,
  rows,
  columns,
});

/** Numbers as the array that a tensor of the dtype holds. */
export function encode(dtype: DType, numbers: readonly number[]): TypedArray {
  switch (dtype) {
    case 'f32':
      return Float32Array.from(numbers);
    case 'f16':
      return Uint16Array.from(numbers, halfBits);
    case 'bf16':
      return Uint16Array.from(numbers, bfloatBits);
    case 'i32':
      return Int32Array.from(numbers);
    case 'u32':
      return Uint32Array.from(numbers);
    default:
      return Uint8Array.from(numbers);
  }
}

function fill({ dtype, shape, low, high, values }: TensorSpec, next: () => number): Tensor {
  const random = (): number => {
    const x = low + next() * (high - low);
    return isFloat(dtype) ? x : Math.floor(x);
  };
  const numbers = values ?? Array.from({ length: sizeOf(shape) }, random);
  return Tensor.ofHost(encode(dtype, numbers), dtype, shape);
}

const packed = new Map<string, Promise<OpInput>>();

/** The inputs of a case: the same numbers at every call; tensors are new, weights are shared. */
export function realize(c: OpCase): Promise<OpInput[]> {
  const next = generator([...`${c.op} ${c.name}`].reduce((h, ch) => Math.imul(h, 31) + ch.charCodeAt(0), 7));
  return Promise.all(
    c.inputs.map((input, i) => {
      if (!input) return null;
      if (input.kind === 'tensor') return fill(input, next);
      const key = `${i} ${JSON.stringify(input)}`;
      const found = packed.get(key) ?? packWeight(input, i + 1);
      packed.set(key, found);
      return found;
    }),
  );
}

/** Whether the case is compared with central differences: a differentiable op, f32 in, f32 out. */
export function isGradientCase(c: OpCase): boolean {
  const tensors = c.inputs.filter((x): x is TensorSpec => x?.kind === 'tensor');
  const floats = tensors.filter((x) => isFloat(x.dtype));
  return (
    c.gradient !== false &&
    opTable.get(c.op)?.gradient !== 'nondifferentiable' &&
    floats.length > 0 &&
    floats.every((x) => x.dtype === 'f32') &&
    (c.op !== 'cast' || c.attrs.dtype === 0)
  );
}
