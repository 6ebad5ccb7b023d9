/** The expert layer as a composite: what its gradient keeps from the forward pass, dropout, errors. */
import { describe, expect, it } from 'vitest';
import { gradients } from '../../src/core/autograd.js';
import { compile, runtimeInt } from '../../src/core/compile.js';
import { defaultDevice } from '../../src/core/device.js';
import * as ops from '../../src/core/ops/index.js';
import { Executable } from '../../src/core/program/compile.js';
import type { Storage } from '../../src/core/program/ir.js';
import { expandTwins } from '../../src/core/program/twins.js';
import { Tensor, tensor } from '../../src/core/tensor.js';
import { generator } from '../helpers/random.js';

const [N, K, E, D, F] = [48, 2, 4, 64, 8];
const R = N * K;
const PRE_ACTIVATION = R * F * 4;

const input = (...shape: number[]): Tensor => Tensor.placeholder('f32', shape);
const index = (...shape: number[]): Tensor => Tensor.placeholder('i32', shape);
const plan = { expertOffsets: index(E + 1), rowToken: index(R), slotRow: index(N, K) };
const [x, dy, combineWeights] = [input(N, D), input(N, D), input(N, K)];
const matrices = { gate: input(E, F, D), up: input(E, F, D), down: input(E, D, F) };
const biases = { gateBias: input(E, F), upBias: input(E, F), downBias: input(E, D) };
const INPUTS = [x, dy, combineWeights, ...Object.values(plan), ...Object.values(matrices)];

/** Bytes of each intermediate that the forward pass, which ends with y, leaves for later. */
function kept(y: Tensor, grads: readonly Tensor[], inputs: readonly Tensor[]): number[] {
  const { instructions } = Executable.build(defaultDevice(), inputs, [y, ...grads]).lowering;
  const end = instructions.findIndex((i) =>
    i.outputs.some(({ storage }) => storage.kind === 'output' && storage.index === 0),
  );
  expect(end).toBeGreaterThan(0);
  const all = new Set<Storage>(instructions.flatMap((i) => i.outputs.map((v) => v.storage)));
  const crossing = [...all].filter((s) => s.kind === 'arena' && s.first <= end && s.last > end);
  return crossing.map((s) => s.bytes).sort((a, b) => b - a);
}

describe('between forward and backward', () => {
  const kinds: [string, Parameters<typeof ops.expertLayer>[3], ops.ExpertLayerOptions, number][] = [
    ['SwiGLU', matrices, {}, 2],
    ['biases', { ...matrices, ...biases }, { activation: 'gelu' }, 2],
    ['dropout', matrices, { dropout: { rate: 0.3, seed: 1 } }, 2],
    ['no gate', { ...matrices, gate: null }, {}, 1],
    ['linear', { gate: null, up: null, down: input(E, D, D) }, {}, 0],
  ];
  it.each(kinds)('%s keeps its pre-activations only', (_, experts, options, count) => {
    const { y } = ops.expertLayer(x, plan, combineWeights, experts, options);
    const given = Object.values(experts).filter((t) => t instanceof Tensor);
    const grads = gradients(y, [x, combineWeights, ...given], dy);
    const inputs = [...new Set([...INPUTS, ...given])];
    expect(kept(y, grads, inputs)).toEqual(Array(count).fill(PRE_ACTIVATION));
  });

  it('the twin would keep rows of the model width', () => {
    const { y } = ops.expertLayer(x, plan, combineWeights, matrices);
    const [plain] = expandTwins([y]) as [Tensor];
    const grads = gradients(plain, [x, combineWeights, ...Object.values(matrices)], dy);
    expect(Math.max(...kept(plain, grads, INPUTS))).toBe(R * D * 4);
  });
});

describe('a composite', () => {
  it('is in no program, fused or not', () => {
    const { y } = ops.expertLayer(x, plan, combineWeights, matrices);
    for (const fuse of [true, false]) {
      const { instructions } = Executable.build(defaultDevice(), INPUTS, [y], { fuse }).lowering;
      expect(instructions.flatMap((i) => i.nodes.map((n) => n.op.name))).not.toContain('expert_layer');
      expect(instructions.map((i) => i.kernel)).toContain('grouped_matmul');
    }
  });
});

describe('dropout', () => {
  const next = generator(5);
  const random = (...shape: number[]): Tensor =>
    tensor(
      Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => next()),
      shape,
    );
  const ids = Tensor.ofHost(
    Int32Array.from({ length: 200 }, (_, i) => i % 2),
    'i32',
    [200, 1],
  );
  const tokens = random(200, 3);
  // all hidden activations are positive, and `down` shows them as they are
  const eye = Float32Array.from({ length: 2 * 16 }, (_, i) => ((i % 16) % 5 === 0 ? 1 : 0));
  const experts = { gate: null, up: random(2, 4, 3), down: tensor(eye, [2, 4, 4]) };
  const hidden = (rate: number) =>
    compile((t: Tensor) => {
      const weights = ops.full([200, 1], 1);
      const dropout = { rate, seed: runtimeInt('seed') };
      return ops.expertLayer(t, ops.moePlan(ids, 2), weights, experts, { activation: 'relu', dropout }).y;
    });

  it('drops the share, and makes the others larger', async () => {
    const [full, some] = [hidden(0), hidden(0.25)];
    const [a, b] = await Promise.all([full(tokens), some.withInts({ seed: 3 }, tokens)]);
    const [all, left] = [await a.data(), await b.data()] as [ArrayLike<number>, ArrayLike<number>];
    let dropped = 0;
    for (let i = 0; i < all.length; i++) {
      if (left[i] === 0) dropped++;
      else expect(left[i]).toBeCloseTo((all[i] as number) / 0.75, 4);
    }
    expect(dropped / all.length).toBeGreaterThan(0.2);
    expect(dropped / all.length).toBeLessThan(0.3);
  });

  it('follows the seed', async () => {
    const run = hidden(0.5);
    const bits = async (seed: number): Promise<number[]> =>
      Array.from((await (await run.withInts({ seed }, tokens)).data()) as ArrayLike<number>);
    expect(await bits(1)).toEqual(await bits(1));
    expect(await bits(1)).not.toEqual(await bits(2));
  });
});

describe('errors', () => {
  const build =
    (experts: Partial<ops.ExpertTensors>, options: ops.ExpertLayerOptions = {}) =>
    (): unknown =>
      ops.expertLayer(x, plan, combineWeights, { ...matrices, ...experts }, options);
  it.each<[string, () => unknown, RegExp]>([
    ['a gate alone', build({ up: null, down: input(E, D, D) }), /^\[expert_layer\] got gate without up/],
    [
      'a bias without its matrix',
      build({ gate: null, gateBias: input(E, F) }),
      /^\[expert_layer\] got gateBias without gate/,
    ],
    ['a bias of another width', build({ upBias: input(E, D) }), /got upBias on axis 1 64, expected 8/],
    [
      'linear experts of another width',
      build({ gate: null, up: null }),
      /got columns of down 8, expected 64/,
    ],
    [
      'a dropout rate of one',
      build({}, { dropout: { rate: 1, seed: 0 } }),
      /^\[expert_layer\] got dropout rate 1, expected at least 0 and below 1/,
    ],
  ])('%s', (_, f, message) => {
    expect(f).toThrow(message);
  });
});
