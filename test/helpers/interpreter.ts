/**
 * A float64 interpreter of graphs: the reference that native kernels and gradients are compared with. Ops with a twin are
 * computed through it; every other op has one small rule of its own under interpreter/.
 */
import { topological } from '../../src/core/autograd.js';
import { defaultDevice } from '../../src/core/device.js';
import { DTYPES, type DType, isFloat } from '../../src/core/dtype.js';
import type { Node } from '../../src/core/op.js';
import { expandTwins } from '../../src/core/program/twins.js';
import { sizeOf } from '../../src/core/shape.js';
import { Tensor } from '../../src/core/tensor.js';
import type { Weight } from '../../src/core/weight.js';
import { ATTENTION_RULES } from './interpreter/attention.js';
import { scalarFunction } from './interpreter/elementwise.js';
import { LINEAR_RULES } from './interpreter/linear.js';
import { RANDOM_RULES } from './interpreter/random.js';
import { REDUCE_RULES } from './interpreter/reduce.js';
import { ROUTING_RULES } from './interpreter/routing.js';
import { type Rules, viewOf } from './interpreter/rule.js';
import { SAMPLE_RULES } from './interpreter/sample.js';
import { SHAPE_RULES } from './interpreter/shape.js';
import { broadcastIndex, decode, stored, type Value, type WeightValue } from './interpreter/value.js';

export const RULES: Rules = {
  ...SHAPE_RULES,
  ...REDUCE_RULES,
  ...LINEAR_RULES,
  ...ATTENTION_RULES,
  ...RANDOM_RULES,
  ...SAMPLE_RULES,
  ...ROUTING_RULES,
};

export interface InterpretOptions {
  /** Values of placeholders, and other values for leaves: what central differences move. */
  feeds?: ReadonlyMap<Tensor, Float64Array>;
  /** Run-time integers by name. */
  ints?: Readonly<Record<string, number>>;
  /** Values of weights; others are read back from the addon. */
  weights?: ReadonlyMap<Weight, Float64Array>;
}

/** Computes tensors in float64 (f16 and bf16 results are rounded to their dtype, whole numbers wrap). */
export function interpret(outputs: readonly Tensor[], options: InterpretOptions = {}): Value[] {
  const expanded = expandTwins(outputs);
  const known = new Map<Tensor, Value>();
  for (const node of topological(expanded)) {
    const inputs = node.inputs.map((x) => (x instanceof Tensor ? valueFor(x, known, options) : null));
    const results = evaluateNode(node, inputs, options);
    node.outputs.forEach((t, i) => {
      known.set(t, { dtype: t.dtype, shape: t.shape, data: results[i] as Float64Array });
    });
  }
  return expanded.map((t) => valueFor(t, known, options));
}

function valueFor(t: Tensor, known: Map<Tensor, Value>, { feeds }: InterpretOptions): Value {
  const found = known.get(t);
  if (found) return found;
  const fed = feeds?.get(t);
  const { source } = t;
  let data = fed;
  if (!data && source.kind === 'host') data = decode(t.dtype, source.data);
  if (!data && source.kind === 'buffer') data = decode(t.dtype, defaultDevice().read(t));
  if (!data) throw new Error(`the interpreter got no value for ${t} (${source.kind})`);
  const value = { dtype: t.dtype, shape: t.shape, data };
  known.set(t, value);
  return value;
}

/** The elements of each output of one node. */
export function evaluateNode(
  node: Node,
  inputs: readonly (Value | null)[],
  { ints = {}, weights }: InterpretOptions = {},
): Float64Array[] {
  const { op, attrs } = node;
  if (op.name === 'full') return [full(node)];
  const present = inputs.filter((v): v is Value => v !== null);
  const scalar = scalarFunction(
    op.name,
    present.map((v) => v.dtype),
    attrs,
  );
  if (scalar) return [elementwise(node, present, scalar)];
  const rule = RULES[op.name];
  if (!rule) throw new Error(`the interpreter has no rule for '${op.name}'`);
  const view = viewOf(
    node,
    (i) => inputs[i] as Value,
    (i) => readWeight(node.inputs[i] as Weight, weights),
    ints,
  );
  return rule(view);
}

function full(node: Node): Float64Array {
  const dtype = DTYPES[node.attrs.dtype as number] as DType;
  const value = node.attrs.value as number;
  const size = sizeOf(node.attrs.shape as number[]);
  return new Float64Array(size).fill(dtype === 'f32' ? Math.fround(value) : stored(dtype, value));
}

function elementwise(node: Node, inputs: readonly Value[], f: (...x: number[]) => number): Float64Array {
  const { dtype, shape } = node.types[0] as Value;
  const index = inputs.map((v) => broadcastIndex(v.shape, shape));
  const y = new Float64Array(sizeOf(shape));
  const float = isFloat(dtype);
  for (let i = 0; i < y.length; i++) {
    const x = f(...inputs.map((v, j) => v.data[(index[j] as Int32Array)[i] as number] as number));
    y[i] = float && dtype === 'f32' ? x : stored(dtype, x);
  }
  return y;
}

const read = new WeakMap<Weight, WeightValue>();
function readWeight(w: Weight, given: ReadonlyMap<Weight, Float64Array> | undefined): WeightValue {
  const { experts, rows, columns } = w;
  const data = given?.get(w);
  if (data) return { experts, rows, columns, data };
  let value = read.get(w);
  if (!value) {
    const { addon } = defaultDevice();
    const all = new Float64Array(experts * rows * columns);
    for (let e = 0; e < experts; e++) all.set(addon.readWeight(w.native, e, 0, rows), e * rows * columns);
    value = { experts, rows, columns, data: all };
    read.set(w, value);
  }
  return value;
}
