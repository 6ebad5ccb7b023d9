import type { NativeBuffer } from './addon.js';
import { type DType, dtypeSize, type TypedArray } from './dtype.js';
import { SwitchyardError } from './errors.js';
import type { Node } from './op.js';
import { checkShape, type Shape, shapeText, sizeOf } from './shape.js';

/** Where a tensor's values come from. */
export type Source =
  | { readonly kind: 'host'; readonly data: TypedArray }
  | { readonly kind: 'buffer'; readonly buffer: NativeBuffer }
  | { readonly kind: 'placeholder' }
  | { readonly kind: 'node'; readonly node: Node; readonly index: number };

/** Evaluates tensors; set by program/compile.ts so that this file knows no device. */
export type Evaluate = (tensors: readonly Tensor[]) => Promise<void>;
export type Read = (tensor: Tensor) => TypedArray;

let runtime: { evaluate: Evaluate; read: Read } | null = null;
export function connectRuntime(evaluate: Evaluate, read: Read): void {
  runtime = { evaluate, read };
}

/**
 * An immutable array `{shape, dtype}`: a node of a graph (op, inputs, attributes) until it is evaluated,
 * then a native buffer. Building one does no arithmetic.
 */
export class Tensor {
  #source: Source;

  private constructor(
    source: Source,
    readonly dtype: DType,
    readonly shape: Shape,
  ) {
    this.#source = source;
  }

  static ofNode(node: Node, index: number, dtype: DType, shape: Shape): Tensor {
    return new Tensor({ kind: 'node', node, index }, dtype, shape);
  }
  static ofBuffer(buffer: NativeBuffer, dtype: DType, shape: Shape): Tensor {
    return new Tensor({ kind: 'buffer', buffer }, dtype, shape);
  }
  static ofHost(data: TypedArray, dtype: DType, shape: Shape): Tensor {
    return new Tensor({ kind: 'host', data }, dtype, shape);
  }
  static placeholder(dtype: DType, shape: Shape): Tensor {
    checkShape('placeholder', shape);
    return new Tensor({ kind: 'placeholder' }, dtype, shape);
  }

  /** Elements. */
  get size(): number {
    return sizeOf(this.shape);
  }
  get rank(): number {
    return this.shape.length;
  }
  get bytes(): number {
    return this.size * dtypeSize(this.dtype);
  }
  /** @internal */
  get source(): Source {
    return this.#source;
  }
  /** @internal Gives an evaluated node its values, so that the graph behind it can be collected. */
  resolve(buffer: NativeBuffer): void {
    this.#source = { kind: 'buffer', buffer };
  }

  /** Evaluates and copies the values out: Float32Array, Int32Array, Uint8Array, …; f16 and bf16 as 16-bit patterns. */
  async data(): Promise<TypedArray> {
    if (this.#source.kind === 'host') return this.#source.data.slice();
    if (!runtime)
      throw new SwitchyardError(
        'ERR_DEVICE',
        '[tensor.data] got no device, expected the runtime to be loaded',
      );
    if (this.#source.kind === 'node') await runtime.evaluate([this]);
    return runtime.read(this);
  }

  /** The value of a tensor with one element. */
  async item(): Promise<number> {
    if (this.size !== 1) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[tensor.item] got shape ${shapeText(this.shape)}, expected one element`,
      );
    }
    return (await this.data())[0] as number;
  }

  toString(): string {
    return `Tensor(${this.dtype} ${shapeText(this.shape)})`;
  }
}

const ARRAY_DTYPES: readonly [new (n: number) => TypedArray, DType][] = [
  [Float32Array, 'f32'],
  [Int32Array, 'i32'],
  [Uint32Array, 'u32'],
  [Uint8Array, 'u8'],
];

export type NestedNumbers = number | readonly NestedNumbers[];

/**
 * A tensor from numbers, nested arrays or a typed array.
 * @param data numbers (f32 unless `dtype` says otherwise) or a typed array, which is copied and decides the dtype
 * @param shape defaults to the nesting, or to one axis for a typed array
 */
export function tensor(data: TypedArray | NestedNumbers, shape?: Shape, dtype?: DType): Tensor {
  let values: TypedArray;
  let found: Shape;
  let type: DType;
  if (ArrayBuffer.isView(data)) {
    const match = ARRAY_DTYPES.find(([C]) => data instanceof C);
    if (data instanceof Uint16Array && dtype !== 'f16' && dtype !== 'bf16') {
      throw new SwitchyardError(
        'ERR_DTYPE',
        "[tensor] got a Uint16Array, expected dtype 'f16' or 'bf16' beside it",
      );
    }
    type = dtype ?? match?.[1] ?? 'f32';
    const fits =
      match?.[1] === type ||
      (data instanceof Uint16Array && (type === 'f16' || type === 'bf16')) ||
      (data instanceof Uint8Array && type === 'bool');
    if (!fits) {
      throw new SwitchyardError(
        'ERR_DTYPE',
        `[tensor] got a ${data.constructor.name} for dtype ${type}, expected the array type of that dtype`,
      );
    }
    values = type === 'bool' ? (data as Uint8Array).map((v) => (v ? 1 : 0)) : data.slice();
    found = [data.length];
  } else {
    found = nesting(data);
    type = dtype ?? 'f32';
    const flat: number[] = [];
    flatten(data, found, 0, flat);
    values = fromNumbers(flat, type);
  }
  const wanted = shape ?? found;
  checkShape('tensor', wanted);
  if (sizeOf(wanted) !== values.length) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[tensor] got ${values.length} values, expected ${sizeOf(wanted)} for shape ${shapeText(wanted)}`,
    );
  }
  return Tensor.ofHost(values, type, [...wanted]);
}

function fromNumbers(flat: number[], dtype: DType): TypedArray {
  switch (dtype) {
    case 'f32':
      return Float32Array.from(flat);
    case 'i32':
      return Int32Array.from(flat);
    case 'u32':
      return Uint32Array.from(flat);
    case 'u8':
      return Uint8Array.from(flat);
    case 'bool':
      return Uint8Array.from(flat, (v) => (v ? 1 : 0));
    default:
      throw new SwitchyardError('ERR_DTYPE', `[tensor] got numbers for dtype ${dtype}, expected f32`, {
        hint: `build it in f32 and use ops.cast(x, '${dtype}')`,
      });
  }
}

function nesting(data: NestedNumbers): number[] {
  const shape: number[] = [];
  let level: NestedNumbers | undefined = data;
  while (Array.isArray(level)) {
    shape.push(level.length);
    level = level[0] as NestedNumbers | undefined;
  }
  return shape;
}

function flatten(data: NestedNumbers, shape: Shape, depth: number, out: number[]): void {
  if (typeof data === 'number') {
    if (depth === shape.length) {
      out.push(data);
      return;
    }
  } else if (depth < shape.length && data.length === shape[depth]) {
    for (const d of data) flatten(d, shape, depth + 1, out);
    return;
  }
  throw new SwitchyardError(
    'ERR_SHAPE',
    '[tensor] got nested arrays of uneven lengths, expected a full grid of numbers',
  );
}
