import type { DType } from './dtype.js';
import { SwitchyardError } from './errors.js';
import type { Shape } from './shape.js';
import { Tensor } from './tensor.js';
import { Weight } from './weight.js';

/** An integer that is given when a compiled program runs (a seed, an offset), not when it is built. */
export class RuntimeInt {
  constructor(readonly name: string) {}
}

export type Attr = number | readonly number[] | RuntimeInt;
export type Attrs = Readonly<Record<string, Attr>>;
export type AttrType = 'int' | 'float' | 'ints';

export type OpInput = Tensor | Weight | null;

export interface TensorType {
  readonly dtype: DType;
  readonly shape: Shape;
}

/** What an op costs: multiply-adds count two. */
export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

export interface GradientContext {
  readonly inputs: readonly OpInput[];
  readonly outputs: readonly Tensor[];
  readonly attrs: Attrs;
  /** Upstream gradients, one an output; null where nothing flows. */
  readonly grads: readonly (Tensor | null)[];
}

/** The gradient of each input, in its shape or in one that it broadcasts to; null where none flows. */
export type GradientRule = (context: GradientContext) => readonly (Tensor | null)[];

/** How a node becomes a native instruction: operands may be seen in other shapes than the graph's. */
export interface Lowered {
  readonly kernel: string;
  readonly inputShapes?: readonly (Shape | null)[];
  readonly outputShapes?: readonly Shape[];
  /** In the order of the kernel's signature. */
  readonly attrs: readonly { readonly type: AttrType; readonly value: Attr }[];
}

/** Writes code of the elementwise kernel; every call returns the register that holds the result. */
export interface Emitter {
  op(name: string, a?: number, b?: number, c?: number): number;
  float(value: number): number;
  int(value: number): number;
}

/**
 * One operation. All checks of shapes, dtypes and ranges live in `infer`: kernels assume.
 * An op is a kernel of its own, code of the elementwise kernel or a view. Or it is a composite: a twin and a gradient
 * rule that knows better than to differentiate the twin; the compiler puts the twin in its place.
 */
export interface OpDef {
  readonly name: string;
  readonly attrs: Readonly<Record<string, AttrType>>;
  infer(inputs: readonly OpInput[], attrs: Attrs): readonly TensorType[];
  readonly gradient: GradientRule | 'twin' | 'nondifferentiable';
  cost?(inputs: readonly OpInput[], outputs: readonly TensorType[], attrs: Attrs): Cost;
  /** The same result from smaller ops: reference in tests, fallback, and gradient where `gradient` is 'twin'. */
  twin?(inputs: readonly OpInput[], attrs: Attrs): readonly Tensor[];
  /** For elementwise ops: writes the op as code of the elementwise kernel and returns the register of the result. */
  emit?(emitter: Emitter, registers: readonly number[], inputs: readonly Tensor[], attrs: Attrs): number;
  /** The output is the first input's storage under another shape. */
  readonly view?: boolean;
  /** The first input is changed in place and is the first output. */
  readonly mutates?: boolean;
  lower?(node: Node): Lowered;
}

/** Whether an op exists for its gradient rule only and is computed by its twin. */
export const isComposite = (op: OpDef): boolean =>
  op.twin !== undefined && typeof op.gradient === 'function' && !op.lower && !op.emit && !op.view;

const table = new Map<string, OpDef>();

/** Adds an op to the table. Called once per op while its module loads. */
export function defineOp(op: OpDef): OpDef {
  if (table.has(op.name))
    throw new SwitchyardError('ERR_OPTION', `[defineOp] op '${op.name}' is defined twice`);
  table.set(op.name, op);
  return op;
}

export const opTable: ReadonlyMap<string, OpDef> = table;

/** One use of an op in a graph. */
export interface Node {
  readonly op: OpDef;
  readonly inputs: readonly OpInput[];
  readonly attrs: Attrs;
  readonly types: readonly TensorType[];
  readonly outputs: readonly Tensor[];
}

/** Builds a node; the op's `infer` checks everything. */
export function apply(op: OpDef, inputs: readonly OpInput[], attrs: Attrs = {}): readonly Tensor[] {
  const types = op.infer(inputs, attrs);
  const outputs: Tensor[] = [];
  const node: Node = { op, inputs, attrs, types, outputs };
  for (let i = 0; i < types.length; i++) {
    const t = types[i] as TensorType;
    outputs.push(Tensor.ofNode(node, i, t.dtype, t.shape));
  }
  return outputs;
}

export const apply1 = (op: OpDef, inputs: readonly OpInput[], attrs: Attrs = {}): Tensor =>
  apply(op, inputs, attrs)[0] as Tensor;

/** The default cost: every operand is moved once and each output element costs one operation. */
export function defaultCost(inputs: readonly OpInput[], outputs: readonly TensorType[]): Cost {
  let bytes = 0;
  let flops = 0;
  for (const x of inputs) if (x) bytes += x.bytes;
  for (const t of outputs) {
    const size = t.shape.reduce((a, b) => a * b, 1);
    flops += size;
    bytes += size * 4;
  }
  return { flops, bytes };
}

// ---- checks shared by infer rules

export function tensorInput(where: string, what: string, x: OpInput | undefined): Tensor {
  if (!(x instanceof Tensor)) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[${where}] got ${x instanceof Weight ? 'a Weight' : String(x)} as ${what}, expected a Tensor`,
    );
  }
  return x;
}

export function weightInput(where: string, what: string, x: OpInput | undefined): Weight {
  if (!(x instanceof Weight)) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[${where}] got ${x instanceof Tensor ? 'a Tensor' : String(x)} as ${what}, expected a Weight`,
    );
  }
  return x;
}

export function checkDType(where: string, what: string, got: DType, ...expected: DType[]): void {
  if (!expected.includes(got)) {
    throw new SwitchyardError(
      'ERR_DTYPE',
      `[${where}] got ${what} of dtype ${got}, expected ${expected.join(' or ')}`,
      {
        hint: `ops.cast(x, '${expected[0]}') converts`,
      },
    );
  }
}

export function checkRank(where: string, what: string, shape: Shape, rank: number): void {
  if (shape.length !== rank) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[${where}] got ${what} of shape [${shape.join(', ')}], expected rank ${rank}`,
    );
  }
}

export function checkSize(where: string, what: string, got: number, expected: number): void {
  if (got !== expected) {
    throw new SwitchyardError('ERR_SHAPE', `[${where}] got ${what} ${got}, expected ${expected}`);
  }
}

export function checkInt(
  where: string,
  what: string,
  value: Attr | undefined,
  min: number,
  max: number,
): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < min || value > max) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[${where}] got ${what} ${String(value)}, expected a whole number from ${min} to ${max}`,
    );
  }
  return value;
}
