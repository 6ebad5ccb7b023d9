/** Gradients against central differences, both in float64 on the interpreter. */
import { expect } from 'vitest';
import * as ops from '../../src/core/ops/index.js';
import { expandTwins } from '../../src/core/program/twins.js';
import { Tensor } from '../../src/core/tensor.js';
import type { Value } from './interpreter/value.js';
import { interpret } from './interpreter.js';
import { generator } from './random.js';
import { DIFFERENCE_TOLERANCE, mismatch } from './tolerance.js';

/** Elements of each input that are moved. */
const PROBES = 16;
const STEP = 2e-4;

export const randomTensor = (shape: readonly number[], seed: number): Tensor => {
  const next = generator(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return Tensor.ofHost(
    Float32Array.from({ length: size }, () => next() * 2 - 1),
    'f32',
    shape,
  );
};

/** Σ over the f32 outputs of output · seed: a scalar that every output element moves. */
export function project(outputs: readonly Tensor[]): Tensor {
  const parts = outputs.flatMap((y, i) =>
    y.dtype === 'f32' ? [ops.sum(ops.mul(y, randomTensor(y.shape, 100 + i)))] : [],
  );
  return parts.reduce((a, b) => ops.add(a, b));
}

/** d loss / d x at one element, from four points (error of order STEP⁴). */
function difference(loss: Tensor, x: Tensor, values: Float64Array, at: number): number {
  const move = (steps: number): number => {
    const moved = values.slice();
    moved[at] = (values[at] as number) + steps * STEP;
    return (interpret([loss], { feeds: new Map([[x, moved]]) })[0] as Value).data[0] as number;
  };
  return (8 * (move(1) - move(-1)) - (move(2) - move(-2))) / (12 * STEP);
}

/** Compares gradients of a scalar with central differences at some elements of every tensor. */
export function checkDifferences(loss: Tensor, wrt: readonly Tensor[], grads: readonly Tensor[]): void {
  const [expanded] = expandTwins([loss]) as [Tensor];
  const found = interpret(grads);
  wrt.forEach((x, i) => {
    const values = (interpret([x])[0] as Value).data;
    const next = generator(i + 1);
    const probes = [
      ...new Set(Array.from({ length: Math.min(PROBES, x.size) }, () => Math.floor(next() * x.size))),
    ];
    const pick = (f: (at: number) => number): Value => ({
      dtype: 'f32',
      shape: [probes.length],
      data: Float64Array.from(probes, f),
    });
    const got = pick((at) => (found[i] as Value).data[at] as number);
    const expected = pick((at) => difference(expanded, x, values, at));
    // what sums to a loss of size L cannot be told from 0 below L · 1e-10
    const scale = Math.abs((interpret([loss])[0] as Value).data[0] as number) * 1e-10;
    expected.data.forEach((e, j) => {
      if (Math.abs(e - (got.data[j] as number)) <= scale) expected.data[j] = got.data[j] as number;
    });
    expect(mismatch(got, expected, DIFFERENCE_TOLERANCE), `input ${i}`).toBeNull();
  });
}
