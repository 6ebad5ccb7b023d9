/** Gradient rules: against central differences in float64, and natively against the interpreter. */
import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/core/autograd.js';
import { isFloat } from '../../src/core/dtype.js';
import { apply, type OpDef, opTable } from '../../src/core/op.js';
import * as ops from '../../src/core/ops/index.js';
import { Tensor } from '../../src/core/tensor.js';
import { checkDifferences, project, randomTensor as random } from '../helpers/differences.js';
import type { Value } from '../helpers/interpreter/value.js';
import { interpret } from '../helpers/interpreter.js';
import { isGradientCase, realize } from '../helpers/op-case.js';
import { deviceOf, runGraph, tiers } from '../helpers/run-graph.js';
import { GRAPH_TOLERANCE, mismatch } from '../helpers/tolerance.js';
import { CASES } from './cases/index.js';

const graphOf = async (c: (typeof CASES)[number]) => {
  const inputs = await realize(c);
  const outputs = apply(opTable.get(c.op) as OpDef, inputs, c.attrs);
  const wrt = inputs.filter(
    (x, i): x is Tensor => x instanceof Tensor && isFloat(x.dtype) && !c.constants?.includes(i),
  );
  return { outputs, wrt };
};
const named = (list: typeof CASES) => list.map((c) => [`${c.op}: ${c.name}`, c] as const);

describe('gradients equal central differences', () => {
  it.each(named(CASES.filter(isGradientCase)))('%s', async (_, c) => {
    const { outputs, wrt } = await graphOf(c);
    const loss = project(outputs);
    const grads = gradients(loss, wrt);
    grads.forEach((g, i) => {
      expect([g.dtype, g.shape]).toEqual([wrt[i]?.dtype, wrt[i]?.shape]);
    });
    checkDifferences(loss, wrt, grads);
  });
});

describe('native gradients agree with the interpreter', () => {
  const list = CASES.filter(
    (c) =>
      isGradientCase(c) ||
      (c.gradient !== false && c.inputs.some((x) => x?.kind === 'tensor' && x.dtype === 'f32')),
  );
  it.each(named(list.filter((c) => opTable.get(c.op)?.gradient !== 'nondifferentiable')))(
    '%s',
    async (_, c) => {
      const { outputs, wrt } = await graphOf(c);
      if (!outputs.some((y) => y.dtype === 'f32')) return;
      const grads = gradients(project(outputs), wrt);
      const expected = interpret(grads);
      for (const tier of new Set([tiers()[0], tiers().at(-1)])) {
        const got = await runGraph(deviceOf(tier as ReturnType<typeof tiers>[0]), grads);
        expected.forEach((e, i) => {
          expect(mismatch(got[i]?.value as Value, e, GRAPH_TOLERANCE), `${tier}, input ${i}`).toBeNull();
        });
      }
    },
  );
});

describe('gradients of narrow floats keep the dtype and shape of the input', () => {
  const narrow = CASES.filter(
    (c) =>
      opTable.get(c.op)?.gradient !== 'nondifferentiable' &&
      c.inputs.some((x) => x?.kind === 'tensor' && (x.dtype === 'f16' || x.dtype === 'bf16')),
  );
  it.each(named(narrow))('%s', async (_, c) => {
    const { outputs, wrt } = await graphOf(c);
    const [y] = outputs as [Tensor];
    if (!isFloat(y.dtype)) return;
    const seed = ops.cast(random(y.shape, 3), y.dtype);
    const grads = gradients(y, wrt, seed);
    grads.forEach((g, i) => {
      expect([g.dtype, g.shape]).toEqual([wrt[i]?.dtype, wrt[i]?.shape]);
    });
    const got = await runGraph(deviceOf('scalar'), grads);
    expect(got.every(({ value }) => value.data.every(Number.isFinite))).toBe(true);
  });
});

describe('second order', () => {
  const x = random([3, 4], 1);
  const y = random([4, 3], 2);
  const experts = [
    [3, 4],
    [3, 2],
    [2, 5, 4],
    [2, 5, 4],
    [2, 4, 5],
    [2, 5],
  ].map((s, i) => random(s, i + 10));
  const expertLayer = () => {
    const [x, weights, gate, up, down, upBias] = experts as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    const plan = ops.moePlan(Tensor.ofHost(Int32Array.of(1, 0, 1, -1, 0, 1), 'i32', [3, 2]), 2);
    return ops.expertLayer(x, plan, weights, { gate, up, down, upBias });
  };
  const table: Record<string, [wrt: Tensor[], f: () => Tensor]> = {
    mul: [[x], () => ops.mul(ops.mul(x, x), x)],
    exp: [[x], () => ops.exp(ops.mul(x, 0.5))],
    softmax: [[x], () => ops.softmax(x)],
    log_softmax: [[x], () => ops.logSoftmax(x)],
    matmul: [[x, y], () => ops.matmul(ops.matmul(x, y), ops.matmul(x, y))],
    silu: [[x], () => ops.silu(x)],
    rms_norm: [[x], () => ops.rmsNorm(x, random([4], 5))],
    'expert layer': [experts, () => expertLayer().y],
    'its pre-activations': [
      experts,
      () => {
        const { y, preGate, preUp } = expertLayer();
        return ops.add(ops.sum(ops.square(y)), ops.sum(ops.mul(preGate as Tensor, preUp as Tensor)));
      },
    ],
    cross_entropy: [[x], () => ops.crossEntropy(x, Tensor.ofHost(Int32Array.of(0, 3, -1), 'i32', [3]))],
  };
  it.each(Object.entries(table))('%s', (_, [wrt, f]) => {
    const first = gradients(project([f()]), wrt);
    const loss = project(first);
    checkDifferences(loss, wrt, gradients(loss, wrt));
  });
});

describe('composed functions', () => {
  const x = random([3, 5], 9);
  const table: Record<string, () => Tensor> = {
    relu: () => ops.relu(x),
    silu: () => ops.silu(x),
    gelu: () => ops.gelu(x),
    geluTanh: () => ops.geluTanh(x),
    softplus: () => ops.softplus(x),
    clamp: () => ops.clamp(x, -0.4, 0.4),
    mean: () => ops.mean(x, 0),
    logSumExp: () => ops.logSumExp(x, 1, { keepDims: true }),
    max: () => ops.max(x, [0, 1]),
    stack: () => ops.stack([x, ops.square(x)], 1),
    'matmul of stacks': () => ops.matmul(ops.reshape(x, [3, 1, 5]), ops.reshape(x, [3, 5, 1])),
    'matmul with a shared matrix': () => ops.matmul(ops.stack([x, ops.neg(x)]), x, { transposeB: true }),
    'a tensor used many times': () => ops.mul(ops.add(x, ops.mul(x, x)), ops.sub(x, ops.tanh(x))),
    stopGradient: () => ops.mul(x, x),
  };
  it.each(Object.entries(table))('%s', (_, f) => {
    const loss = project([f()]);
    checkDifferences(loss, [x], gradients(loss, [x]));
  });

  it('stopGradient passes values and no gradient', () => {
    const [g] = gradients(ops.sum(ops.mul(x, ops.stopGradient(x))), [x]) as [Tensor];
    expect((interpret([g])[0] as Value).data).toEqual((interpret([x])[0] as Value).data);
    const [none] = gradients(ops.sum(ops.stopGradient(x)), [x]) as [Tensor];
    expect((interpret([none])[0] as Value).data.every((v) => v === 0)).toBe(true);
  });
});
