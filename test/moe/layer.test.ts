/** The layer as its users meet it: options, parameters, dtypes, training, a policy of one's own. */
import { describe, expect, it } from 'vitest';
import { valueAndGrad } from '../../src/core/autograd.js';
import { compile, runtimeInt } from '../../src/core/compile.js';
import { defaultDevice } from '../../src/core/device.js';
import * as ops from '../../src/core/ops/index.js';
import { evaluate } from '../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { treeMap } from '../../src/core/tree.js';
import { packValues } from '../../src/models/read/weights.js';
import * as moe from '../../src/moe/index.js';
import { randomTensor } from '../helpers/differences.js';
import { layerParameters, SIZES } from '../helpers/moe.js';
import { distance } from '../parity/compare.js';

const { gating } = moe;
const BASE = { dModel: 5, dFf: 4, nExperts: 4 };
const values = async (t: Tensor): Promise<number[]> => Array.from(await t.data());

describe('what the layer refuses', () => {
  const wrong: [object, RegExp][] = [
    [{ ...BASE }, /got topK undefined, expected a whole number ≥ 1/],
    [{ ...BASE, topK: 5 }, /got topK 5, expected at most nExperts 4/],
    [{ ...BASE, topK: 0 }, /got topK 0/],
    [{ ...BASE, topK: 1, dModel: 0 }, /got dModel 0/],
    [{ ...BASE, topK: 1, nExperts: 2.5 }, /got nExperts 2.5/],
    [{ ...BASE, topK: 1, granularity: 3 }, /got dFf 4, expected a multiple of granularity 3/],
    [{ ...BASE, topK: 2, gating: 'switch-top-1' }, /got topK 2, expected 1 for gating 'switch-top-1'/],
    [{ ...BASE, granularity: 2, gating: 'switch-top-1' }, /got granularity 2, expected 1/],
    [{ ...BASE, nExperts: 1, gating: 'st-moe-top-2' }, /got 1 experts, expected at least 2/],
    [{ ...BASE, topK: 1, expertDropout: 1 }, /got dropout 1, expected 0 up to less than 1/],
    [{ ...BASE, topK: 1, nSharedExperts: -1 }, /got nSharedExperts -1/],
    [{ ...BASE, topK: 1, topk: 2 }, /\[MoELayer\] got 'topk', expected one of/],
  ];
  it.each(wrong)('%j', (options, message) => {
    expect(() => new moe.MoELayer(options as moe.MoELayerOptions)).toThrow(message);
  });

  it('parameters that do not fit, by name', () => {
    const fit = new moe.MoELayer({ ...BASE, topK: 1 }).parameters;
    const make =
      (change: object): (() => unknown) =>
      () =>
        new moe.MoELayer({ ...BASE, topK: 1 }, { ...fit, ...change });
    expect(make({ router: null })).toThrow(/got no router, expected parameters.router/);
    expect(make({ router: { weight: randomTensor([5, 5], 1) } })).toThrow(
      /got router.weight of shape \[5, 5\], expected \[4, 5\]/,
    );
    expect(make({ experts: { ...fit.experts, down: randomTensor([4, 5, 3], 1) } })).toThrow(
      /got experts.down of shape \[4, 5, 3\], expected \[4, 5, 4\]/,
    );
    expect(make({ selectionBias: randomTensor([3], 1) })).toThrow(/got selectionBias of shape \[3\]/);
    expect(
      () => new moe.MoELayer({ ...BASE, topK: 1, gating: 'noisy-top-k' }, { ...fit, gating: {} }),
    ).toThrow(/got no gating.noise, expected a tensor \[4,5\]/);
  });

  it('inputs without a token axis, and options of a pass that do not exist', () => {
    const layer = new moe.MoELayer({ ...BASE, topK: 1 });
    expect(() => layer.forward(tensor([1, 2, 3, 4, 5]))).toThrow(/got x of shape \[5\], expected tokens/);
    expect(() => layer.forward(tensor([[1, 2, 3]]))).toThrow(
      /got x of shape \[1,3\], expected tokens \[B, T, 5\] or \[N, 5\]/,
    );
    expect(() => layer.forward(tensor([[1, 2, 3, 4, 5]]), { train: true } as never)).toThrow(
      /\[MoELayer.forward\] got 'train'/,
    );
  });

  it.each([
    'softmax-top-k',
    'dense',
    'soft-moe',
    'soft-merging',
    'expert-choice',
    'sinkhorn',
    'base',
  ] as const)('%s: logits that are no numbers name the token', async (name) => {
    const layer = new moe.MoELayer({
      ...BASE,
      ...(name === 'softmax-top-k' ? { topK: 1 } : {}),
      gating: name,
    });
    const { output } = layer.forward(
      tensor([
        [0, 0, 0, 0, 0],
        [Number.NaN, 0, 0, 0, 0],
      ]),
    );
    await expect(output.data()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(/got logit nan for token 1/i),
    });
  });
});

describe('forms of the layer', () => {
  it('fine-grained experts: granularity times as many, as much narrower', () => {
    const layer = new moe.MoELayer({ ...BASE, topK: 2, granularity: 2 });
    expect([layer.nExperts, layer.topK]).toEqual([8, 4]);
    expect((layer.parameters.experts.down as Tensor).shape).toEqual([8, 5, 2]);
  });

  it('shared experts, biases and the sigmoid gate are made on request', () => {
    const { shared, experts, selectionBias } = new moe.MoELayer({
      ...BASE,
      topK: 1,
      bias: true,
      nSharedExperts: 2,
      sharedGate: true,
      selectionBias: true,
    }).parameters;
    const shapeOf = (p: moe.LinearParameters | null | undefined) => p && (p.weight as Tensor).shape;
    expect(shapeOf(shared?.up)).toEqual([8, 5]);
    expect(shapeOf(shared?.outputGate)).toEqual([1, 5]);
    expect(experts.downBias?.shape).toEqual([4, 5]);
    expect(selectionBias?.shape).toEqual([4]);
    expect(new moe.MoELayer({ ...BASE, topK: 1, gated: false }).parameters.experts.gate).toBeNull();
  });

  it.each(moe.gatingNames)('%s: any leading axes, and zero tokens', async (name) => {
    const layer = new moe.MoELayer({
      ...BASE,
      gating: name,
      ...(resolvesTopK(name) ? {} : { topK: 2 }),
    });
    for (const lead of [[3], [1, 3], [2, 1, 3], [0], [2, 0], [0, 3]]) {
      const n = lead.reduce((a, b) => a * b, 1);
      const tokenIds = tensor(new Int32Array(n), lead);
      for (const training of [false, true]) {
        const { output } = layer.forward(randomTensor([...lead, 5], 1), { tokenIds, training });
        expect(output.shape).toEqual([...lead, 5]);
        expect((await output.data()).every(Number.isFinite)).toBe(true);
      }
    }
  });

  it.each(['f16', 'bf16'] as const)(
    '%s activations and parameters: routed and computed in f32',
    async (dtype) => {
      const parameters = layerParameters(gating.softmaxTopK(), { bias: false });
      const narrow = (t: Tensor): Tensor => ops.cast(t, dtype);
      const { gate, up, down } = parameters.experts as Record<'gate' | 'up' | 'down', Tensor>;
      const low: moe.MoEParameters = {
        router: { weight: narrow(parameters.router?.weight as Tensor) },
        experts: { gate: narrow(gate), up: narrow(up), down: narrow(down) },
      };
      const x = narrow(randomTensor([6, 5], 3));
      const options = { ...SIZES, topK: 2 };
      const widened = (t: Tensor): Tensor => ops.cast(t, 'f32');
      const wide: moe.MoEParameters = {
        router: { weight: widened(low.router?.weight as Tensor) },
        experts: {
          gate: widened(low.experts.gate as Tensor),
          up: widened(low.experts.up as Tensor),
          down: widened(low.experts.down as Tensor),
        },
      };
      const got = new moe.MoELayer(options, low).forward(x);
      const want = new moe.MoELayer(options, wide).forward(widened(x));
      expect(got.output.dtype).toBe(dtype);
      expect(await values(widened(got.output))).toEqual(await values(widened(narrow(want.output))));
      expect(await values(got.plan.routerLogits)).toEqual(await values(want.plan.routerLogits));
    },
  );

  it('packed experts with biases give what tensors give', async () => {
    const parameters = layerParameters(gating.softmaxTopK());
    const device = defaultDevice();
    const pack = async (t: Tensor) => {
      const [e, rows, columns] = t.shape as [number, number, number];
      return packValues(device, (await t.data()) as Float32Array, rows, columns, e);
    };
    const { gate, up, down, ...biases } = parameters.experts;
    const packed = {
      ...parameters,
      experts: {
        ...biases,
        gate: await pack(gate as Tensor),
        up: await pack(up as Tensor),
        down: await pack(down as Tensor),
      },
    };
    const x = randomTensor([7, 5], 4);
    const options = { ...SIZES, topK: 2 };
    const [a, b] = [parameters, packed].map((p) => new moe.MoELayer(options, p).forward(x).output) as [
      Tensor,
      Tensor,
    ];
    expect(distance(await values(b), await values(a))).toBeLessThan(1e-6);
  });
});

const resolvesTopK = (name: moe.GatingName): boolean => moe.resolveGating(name).topK !== undefined;

describe('training', () => {
  const target = randomTensor([4, 4, 5], 9);
  const x = randomTensor([4, 4, 5], 8);

  it.each(['softmax-top-k', 'noisy-top-k', 'expert-choice', 'soft-moe', 'soft-merging', 'base'] as const)(
    'a compiled step with %s lowers the error',
    async (name) => {
      const policy = moe.resolveGating(name);
      const options = { ...SIZES, ...(policy.topK ? {} : { topK: 2 }), gating: policy, expertDropout: 0.05 };
      const layer = new moe.MoELayer(options, layerParameters(policy));
      const seed = runtimeInt('seed');
      const lossOf = valueAndGrad((parameters: moe.MoEParameters, input: Tensor) => {
        const { output, losses } = layer.forward(input, { parameters, training: true, seed });
        const error = ops.mean(ops.square(ops.sub(output, target)));
        return name === 'softmax-top-k'
          ? ops.add(error, losses.total({ loadBalancing: 0.01, routerZ: 0.001 }))
          : error;
      });
      const step = compile((parameters: moe.MoEParameters) => {
        const { value, grad } = lossOf(parameters, x);
        return {
          value,
          parameters: treeMap(parameters, (p, g) => ops.sub(p, ops.mul(g, 0.5)), grad),
        };
      });
      let { parameters } = layer;
      const losses: number[] = [];
      for (let i = 0; i < 60; i++) {
        const next = await step.withInts({ seed: i }, parameters);
        parameters = next.parameters;
        losses.push(await next.value.item());
      }
      expect(step.programs).toBe(1);
      expect(losses.at(-1)).toBeLessThan(0.9 * (losses[0] as number));
      step.dispose();
    },
  );

  it('a run-time seed gives other noise without another program', async () => {
    const layer = new moe.MoELayer({ ...BASE, gating: 'random', topK: 1 });
    const seed = runtimeInt('seed');
    const run = compile((input: Tensor) => layer.forward(input, { seed }).output);
    const outputs = [];
    for (const value of [1, 1, 2]) outputs.push(await values(await run.withInts({ seed: value }, x)));
    expect(outputs[1]).toEqual(outputs[0]);
    expect(outputs[2]).not.toEqual(outputs[0]);
    expect(run.programs).toBe(1);
    run.dispose();
  });

  it('the bias update evens out the load without touching the weights', async () => {
    const favour = tensor(
      Float32Array.from({ length: 20 }, (_, i) => (i < 5 ? 1.5 : 0)),
      [4, 5],
    );
    const skewed = { weight: ops.add(randomTensor([4, 5], 6), favour) };
    let bias = ops.zeros([4]);
    const loads: number[] = [];
    const { experts } = new moe.MoELayer({ ...BASE, topK: 1 }).parameters;
    const input = ops.abs(randomTensor([64, 5], 5)); // the first expert is everybody's favourite
    for (let i = 0; i < 60; i++) {
      const layer = new moe.MoELayer(
        { ...BASE, topK: 1, gating: gating.sigmoidTopK({ renormalize: false }) },
        { router: skewed, experts, selectionBias: bias },
      );
      const { plan } = layer.forward(input);
      if (plan.kind !== 'sparse') throw new Error(plan.kind);
      bias = moe.updateSelectionBias(bias, plan.wishedIds, { rate: 0.02 });
      await evaluate([bias, plan.wishedIds], defaultDevice());
      loads.push(moe.loadStatistics(await plan.wishedIds.data(), 4).maxViolation);
    }
    expect(loads[0]).toBeGreaterThan(2.5); // nearly all of 3
    expect(loads.at(-1)).toBeLessThan(0.5);
  });
});

describe('a policy of one’s own', () => {
  /** Threshold routing: the first expert always, the second only where it is nearly as likely. */
  const threshold = (ratio: number): moe.Gating => ({
    name: 'threshold',
    topK: () => 2,
    route(logits, { noise }) {
      expect(noise).toBeDefined();
      const probabilities = ops.softmax(logits);
      const { values: best, indices } = ops.topK(probabilities, 2);
      const enough = ops.greaterEqual(best, ops.mul(ops.slice(best, 1, 0, 1), ratio));
      return {
        kind: 'sparse',
        expertIds: ops.where(enough, indices, ops.full([], -1, 'i32')),
        combineWeights: best,
        probabilities,
      };
    },
  });

  it('is trained and counted like ours', async () => {
    const x = randomTensor([32, 5], 2);
    const layer = new moe.MoELayer({ ...BASE, gating: threshold(0.99) }, undefined);
    const { output, plan, losses } = layer.forward(x);
    if (plan.kind !== 'sparse') throw new Error(plan.kind);
    const { dropped } = moe.loadStatistics(await plan.expertIds.data(), 4);
    expect(dropped).toBeGreaterThan(0);
    expect(dropped).toBeLessThan(0.5);
    expect((await output.data()).every(Number.isFinite)).toBe(true);
    expect(await losses.loadBalancing.item()).toBeGreaterThan(0);
  });
});
