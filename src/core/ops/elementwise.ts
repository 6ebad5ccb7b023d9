/** Elementwise ops: each is a few opcodes of one native kernel, and chains of them are fused into one pass. */
import { DTYPES, type DType, dtypeCode, isFloat, roundTo } from '../dtype.js';
import { SwitchyardError } from '../errors.js';
import {
  apply1,
  checkDType,
  defineOp,
  type GradientContext,
  type OpDef,
  type OpInput,
  tensorInput,
} from '../op.js';
import { broadcastShapes, checkShape, type Shape, sameShape } from '../shape.js';
import { Tensor } from '../tensor.js';

export type TensorLike = Tensor | number;

const isInt = (dtype: DType): boolean => !isFloat(dtype);

/** Ranges of whole dtypes. */
const WHOLE: Partial<Record<DType, readonly [number, number]>> = {
  i32: [-(2 ** 31), 2 ** 31 - 1],
  u32: [0, 2 ** 32 - 1],
  u8: [0, 255],
  bool: [0, 1],
};

const fullOp = defineOp({
  name: 'full',
  attrs: { value: 'float', shape: 'ints', dtype: 'int' },
  infer: (_inputs, attrs) => [{ dtype: DTYPES[attrs.dtype as number] as DType, shape: attrs.shape as Shape }],
  gradient: () => [],
  emit(e, _r, _i, attrs) {
    const dtype = DTYPES[attrs.dtype as number] as DType;
    const value = attrs.value as number;
    return isFloat(dtype) ? e.float(roundTo(dtype, value)) : e.int(value);
  },
});

/** A tensor of `shape` filled with one value. Default dtype f32. */
export function full(shape: Shape, value: number, dtype: DType = 'f32'): Tensor {
  checkShape('full', shape);
  const [low, high] = WHOLE[dtype] ?? [-Infinity, Infinity];
  if (isInt(dtype) && !(Number.isInteger(value) && value >= low && value <= high)) {
    throw new SwitchyardError(
      'ERR_DTYPE',
      `[full] got ${value} for dtype ${dtype}, expected a whole number from ${low} to ${high}`,
    );
  }
  return apply1(fullOp, [], { value, shape: [...shape], dtype: dtypeCode(dtype) });
}

export const zeros = (shape: Shape, dtype: DType = 'f32'): Tensor => full(shape, 0, dtype);
export const ones = (shape: Shape, dtype: DType = 'f32'): Tensor => full(shape, 1, dtype);

/** A number beside a tensor takes that tensor's dtype. */
function operands(a: TensorLike, b: TensorLike): [Tensor, Tensor] {
  const dtype = a instanceof Tensor ? a.dtype : b instanceof Tensor ? b.dtype : 'f32';
  const lift = (x: TensorLike): Tensor => (x instanceof Tensor ? x : full([], x, dtype));
  return [lift(a), lift(b)];
}

/** Lanes are i32, so u32 takes only the operations whose bits do not depend on the sign. */
const SIGNED = new Set(['div', 'mod', 'maximum', 'minimum', 'less', 'less_equal']);

type Kind = 'arithmetic' | 'comparison' | 'logical';

function binary(
  name: string,
  kind: Kind,
  codes: { float?: string; int?: string },
  gradient: OpDef['gradient'],
): (a: TensorLike, b: TensorLike) => Tensor {
  const op = defineOp({
    name,
    attrs: {},
    infer(inputs) {
      const a = tensorInput(name, 'a', inputs[0]);
      const b = tensorInput(name, 'b', inputs[1]);
      if (a.dtype !== b.dtype) checkDType(name, 'b', b.dtype, a.dtype);
      if (kind === 'logical') checkDType(name, 'a', a.dtype, 'bool', 'i32', 'u32', 'u8');
      else if (!codes.int && isInt(a.dtype)) checkDType(name, 'a', a.dtype, 'f32', 'f16', 'bf16');
      if (SIGNED.has(name) && a.dtype === 'u32')
        checkDType(name, 'a', a.dtype, ...(kind === 'logical' ? [] : (['f32'] as const)), 'i32');
      const dtype = kind === 'comparison' ? 'bool' : a.dtype;
      return [{ dtype, shape: broadcastShapes(name, a.shape, b.shape) }];
    },
    gradient,
    emit: (e, r, inputs) =>
      e.op((isFloat((inputs[0] as Tensor).dtype) ? codes.float : codes.int) as string, r[0], r[1]),
  });
  return (a, b) => {
    const [x, y] = operands(a, b);
    return apply1(op, [x, y]);
  };
}

/** The tensors of a gradient rule: inputs, first output and its upstream gradient. */
function parts(c: GradientContext): { a: Tensor; b: Tensor; y: Tensor; g: Tensor } {
  return {
    a: c.inputs[0] as Tensor,
    b: c.inputs[1] as Tensor,
    y: c.outputs[0] as Tensor,
    g: c.grads[0] as Tensor,
  };
}
const pair = (
  c: GradientContext,
  ga: (p: ReturnType<typeof parts>) => Tensor,
  gb: (p: ReturnType<typeof parts>) => Tensor,
): Tensor[] => {
  const p = parts(c);
  return [ga(p), gb(p)];
};

export const add = binary('add', 'arithmetic', { float: 'add', int: 'add_i32' }, (c) =>
  pair(
    c,
    ({ g }) => g,
    ({ g }) => g,
  ),
);
export const sub = binary('sub', 'arithmetic', { float: 'sub', int: 'sub_i32' }, (c) =>
  pair(
    c,
    ({ g }) => g,
    ({ g }) => neg(g),
  ),
);
export const mul = binary('mul', 'arithmetic', { float: 'mul', int: 'mul_i32' }, (c) =>
  pair(
    c,
    ({ g, b }) => mul(g, b),
    ({ g, a }) => mul(g, a),
  ),
);
export const div = binary('div', 'arithmetic', { float: 'div', int: 'div_i32' }, (c) =>
  pair(
    c,
    ({ g, b }) => div(g, b),
    ({ g, b, y }) => neg(div(mul(g, y), b)),
  ),
);
/** The remainder of whole numbers, with the sign of `a`. */
export const mod = binary('mod', 'logical', { int: 'mod_i32' }, 'nondifferentiable');
/** aᵇ. The gradient for b assumes a > 0. */
export const pow = binary('pow', 'arithmetic', { float: 'pow' }, (c) =>
  pair(
    c,
    ({ g, a, b }) => mul(g, mul(b, pow(a, sub(b, 1)))),
    ({ g, a, y }) => mul(g, mul(y, log(a))),
  ),
);
/** Ties share the gradient equally. */
const half = (g: Tensor, wins: Tensor, ties: Tensor): Tensor => where(wins, g, where(ties, mul(g, 0.5), 0));
export const maximum = binary('maximum', 'arithmetic', { float: 'max', int: 'max_i32' }, (c) =>
  pair(
    c,
    ({ g, a, b }) => half(g, greater(a, b), equal(a, b)),
    ({ g, a, b }) => half(g, less(a, b), equal(a, b)),
  ),
);
export const minimum = binary('minimum', 'arithmetic', { float: 'min', int: 'min_i32' }, (c) =>
  pair(
    c,
    ({ g, a, b }) => half(g, less(a, b), equal(a, b)),
    ({ g, a, b }) => half(g, greater(a, b), equal(a, b)),
  ),
);

export const less = binary('less', 'comparison', { float: 'lt', int: 'lt_i32' }, 'nondifferentiable');
export const lessEqual = binary(
  'less_equal',
  'comparison',
  { float: 'le', int: 'le_i32' },
  'nondifferentiable',
);
export const equal = binary('equal', 'comparison', { float: 'eq', int: 'eq_i32' }, 'nondifferentiable');
export const notEqual = binary(
  'not_equal',
  'comparison',
  { float: 'ne', int: 'ne_i32' },
  'nondifferentiable',
);
export const greater = (a: TensorLike, b: TensorLike): Tensor => less(b, a);
export const greaterEqual = (a: TensorLike, b: TensorLike): Tensor => lessEqual(b, a);
/** Bitwise on whole numbers; logical on bool. */
export const and = binary('and', 'logical', { int: 'and' }, 'nondifferentiable');
export const or = binary('or', 'logical', { int: 'or' }, 'nondifferentiable');
export const xor = binary('xor', 'logical', { int: 'xor' }, 'nondifferentiable');

function unary(
  name: string,
  code: string | null,
  gradient: (g: Tensor, x: Tensor, y: Tensor) => Tensor | null,
): (x: Tensor) => Tensor {
  const op = defineOp({
    name,
    attrs: {},
    infer(inputs) {
      const x = tensorInput(name, 'x', inputs[0]);
      checkDType(name, 'x', x.dtype, 'f32', 'f16', 'bf16');
      return [{ dtype: x.dtype, shape: x.shape }];
    },
    gradient: (c) => [gradient(c.grads[0] as Tensor, c.inputs[0] as Tensor, c.outputs[0] as Tensor)],
    emit: (e, r) => e.op(code as string, r[0]),
  });
  return (x) => apply1(op, [x]);
}

export const neg = unary('neg', 'neg', (g) => neg(g));
export const abs = unary('abs', 'abs', (g, x) => mul(g, sign(x)));
export const sign = unary('sign', 'sign', () => null);
export const exp = unary('exp', 'exp', (g, _x, y) => mul(g, y));
export const log = unary('log', 'log', (g, x) => div(g, x));
export const log1p = unary('log1p', 'log1p', (g, x) => div(g, add(x, 1)));
export const sqrt = unary('sqrt', 'sqrt', (g, _x, y) => div(mul(g, 0.5), y));
export const rsqrt = unary('rsqrt', 'rsqrt', (g, _x, y) => mul(g, mul(-0.5, mul(y, mul(y, y)))));
export const reciprocal = unary('reciprocal', 'reciprocal', (g, _x, y) => neg(mul(g, mul(y, y))));
export const tanh = unary('tanh', 'tanh', (g, _x, y) => mul(g, sub(1, mul(y, y))));
export const erf = unary('erf', 'erf', (g, x) => mul(g, mul(2 / Math.sqrt(Math.PI), exp(neg(mul(x, x))))));
export const sigmoid = unary('sigmoid', 'sigmoid', (g, _x, y) => mul(g, mul(y, sub(1, y))));
export const sin = unary('sin', 'sin', (g, x) => mul(g, cos(x)));
export const cos = unary('cos', 'cos', (g, x) => neg(mul(g, sin(x))));
export const floor = unary('floor', 'floor', () => null);

const notOp = defineOp({
  name: 'not',
  attrs: {},
  infer(inputs) {
    const x = tensorInput('not', 'x', inputs[0]);
    checkDType('not', 'x', x.dtype, 'bool', 'i32', 'u32', 'u8');
    return [{ dtype: x.dtype, shape: x.shape }];
  },
  gradient: 'nondifferentiable',
  // the opcode turns every bit, so that not 1 would still count as true
  emit: (e, r, inputs) =>
    (inputs[0] as Tensor).dtype === 'bool' ? e.op('eq_i32', r[0], e.int(0)) : e.op('not', r[0]),
});
/** Logical not of a bool tensor, bitwise of whole numbers. */
export const not = (x: Tensor): Tensor => apply1(notOp, [x]);

const whereOp = defineOp({
  name: 'where',
  attrs: {},
  infer(inputs: readonly OpInput[]) {
    const c = tensorInput('where', 'condition', inputs[0]);
    const a = tensorInput('where', 'a', inputs[1]);
    const b = tensorInput('where', 'b', inputs[2]);
    checkDType('where', 'condition', c.dtype, 'bool');
    if (a.dtype !== b.dtype) checkDType('where', 'b', b.dtype, a.dtype);
    return [
      {
        dtype: a.dtype,
        shape: broadcastShapes('where', c.shape, broadcastShapes('where', a.shape, b.shape)),
      },
    ];
  },
  gradient({ inputs, grads }) {
    const [c, g] = [inputs[0] as Tensor, grads[0] as Tensor];
    return [null, where(c, g, 0), where(c, 0, g)];
  },
  emit: (e, r, inputs) =>
    e.op(isFloat((inputs[1] as Tensor).dtype) ? 'select' : 'select_i32', r[0], r[1], r[2]),
});
/** condition ? a : b, elementwise. */
export function where(condition: Tensor, a: TensorLike, b: TensorLike): Tensor {
  const [x, y] = operands(a, b);
  return apply1(whereOp, [condition, x, y]);
}

const castOp = defineOp({
  name: 'cast',
  attrs: { dtype: 'int' },
  infer(inputs, attrs) {
    const x = tensorInput('cast', 'x', inputs[0]);
    const dtype = DTYPES[attrs.dtype as number] as DType;
    // lanes are i32: what does not fit there would change its value
    if (x.dtype === 'u32' && isFloat(dtype)) checkDType('cast', 'x', x.dtype, 'i32', 'u8', 'bool');
    if (dtype === 'u32' && isFloat(x.dtype)) checkDType('cast', 'x', x.dtype, 'i32', 'u8', 'bool');
    return [{ dtype, shape: x.shape }];
  },
  gradient({ inputs, grads }) {
    const x = inputs[0] as Tensor;
    return [isFloat(x.dtype) ? cast(grads[0] as Tensor, x.dtype) : null];
  },
  emit(e, r, inputs, attrs) {
    const from = (inputs[0] as Tensor).dtype;
    const to = DTYPES[attrs.dtype as number] as DType;
    const x = r[0] as number;
    if (to === 'bool') return isFloat(from) ? e.op('ne', x, e.float(0)) : e.op('ne_i32', x, e.int(0));
    if (isFloat(from) === isFloat(to)) return x;
    return e.op(isFloat(to) ? 'to_f32' : 'to_i32', x);
  },
});
/** Converts to another dtype: floats round to nearest even, float to whole truncates, to bool means ≠ 0. */
export function cast(x: Tensor, dtype: DType): Tensor {
  return x.dtype === dtype ? x : apply1(castOp, [x], { dtype: dtypeCode(dtype) });
}

// ---- compositions: fused by the compiler into one pass

export const square = (x: Tensor): Tensor => mul(x, x);
export const relu = (x: Tensor): Tensor => maximum(x, 0);
/** x · σ(x) (Hendrycks & Gimpel 2016; also called swish). */
export const silu = (x: Tensor): Tensor => mul(x, sigmoid(x));
/** The exact form, x · Φ(x). */
export const gelu = (x: Tensor): Tensor => mul(mul(x, 0.5), add(erf(mul(x, Math.SQRT1_2)), 1));
/** The tanh form of GELU. */
export const geluTanh = (x: Tensor): Tensor =>
  mul(mul(x, 0.5), add(tanh(mul(Math.sqrt(2 / Math.PI), add(x, mul(0.044715, mul(x, mul(x, x)))))), 1));
/** log(1 + eˣ), without overflow. */
export const softplus = (x: Tensor): Tensor => add(maximum(x, 0), log1p(exp(neg(abs(x)))));
export const clamp = (x: Tensor, low: number, high: number): Tensor => minimum(maximum(x, low), high);
export const isNotANumber = (x: Tensor): Tensor => notEqual(x, x);

export const ACTIVATIONS = { silu, gelu, gelu_tanh: geluTanh, relu } as const;
export type Activation = keyof typeof ACTIVATIONS;
/** In the order of the native kernels' `activation` attribute. */
export const ACTIVATION_NAMES = [
  'silu',
  'gelu',
  'gelu_tanh',
  'relu',
] as const satisfies readonly Activation[];

const stopGradientOp = defineOp({
  name: 'stop_gradient',
  attrs: {},
  infer(inputs) {
    const x = tensorInput('stop_gradient', 'x', inputs[0]);
    return [{ dtype: x.dtype, shape: x.shape }];
  },
  gradient: 'nondifferentiable',
  view: true,
});
/** The same values; gradients do not pass. */
export const stopGradient = (x: Tensor): Tensor => apply1(stopGradientOp, [x]);

/** Whether two tensors agree in shape and dtype. */
export const sameType = (a: Tensor, b: Tensor): boolean => a.dtype === b.dtype && sameShape(a.shape, b.shape);
