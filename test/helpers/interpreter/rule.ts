/** What a reference rule of the interpreter sees of a node. */
import type { Attr, Node, TensorType } from '../../../src/core/op.js';
import { Tensor } from '../../../src/core/tensor.js';
import type { Value, WeightValue } from './value.js';

export interface View {
  readonly count: number;
  x(i: number): Value;
  optional(i: number): Value | null;
  weight(i: number): WeightValue;
  number(name: string): number;
  ints(name: string): readonly number[];
  out(i: number): TensorType;
}
/** Computes the elements of each output. */
export type Rule = (view: View) => Float64Array[];
export type Rules = Readonly<Record<string, Rule>>;

export function viewOf(
  node: Node,
  values: (i: number) => Value,
  weights: (i: number) => WeightValue,
  ints: Readonly<Record<string, number>>,
): View {
  const attr = (name: string): Attr => {
    const value = node.attrs[name];
    if (value === undefined) throw new Error(`${node.op.name} has no attribute ${name}`);
    return value;
  };
  return {
    count: node.inputs.length,
    x: values,
    optional: (i) => (node.inputs[i] instanceof Tensor ? values(i) : null),
    weight: weights,
    number(name) {
      const value = attr(name);
      if (typeof value === 'number') return value;
      if ('name' in value && typeof value.name === 'string') return ints[value.name] as number;
      throw new Error(`${node.op.name} has a list as ${name}`);
    },
    ints: (name) => attr(name) as readonly number[],
    out: (i) => node.types[i] as TensorType,
  };
}
