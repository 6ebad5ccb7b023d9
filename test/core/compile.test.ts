/** The program compiler: dead code, fusion, memory plan, cache, run-time integers, mutation, errors. */
import * as fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { compile, runtimeInt } from '../../src/core/compile.js';
import { defaultDevice } from '../../src/core/device.js';
import type { OpInput } from '../../src/core/op.js';
import * as ops from '../../src/core/ops/index.js';
import { Executable } from '../../src/core/program/compile.js';
import { describeProgram } from '../../src/core/program/describe.js';
import type { Lowering, Storage } from '../../src/core/program/ir.js';
import { compareWithTwin } from '../../src/core/program/validate.js';
import { Tensor, tensor } from '../../src/core/tensor.js';
import type { Value } from '../helpers/interpreter/value.js';
import { interpret } from '../helpers/interpreter.js';
import { weight } from '../helpers/op-case.js';
import { generator } from '../helpers/random.js';
import { deviceOf, runNative, tiers } from '../helpers/run-graph.js';
import { GRAPH_TOLERANCE, mismatch } from '../helpers/tolerance.js';
import { packWeight } from '../helpers/weights.js';

const placeholder = (...shape: number[]): Tensor => Tensor.placeholder('f32', shape);
function random(shape: readonly number[], seed = 1): Tensor {
  const next = generator(seed);
  const size = shape.reduce((a, b) => a * b, 1);
  return tensor(
    Float32Array.from({ length: size }, () => next() * 2 - 1),
    shape,
  );
}
function lowered(inputs: readonly Tensor[], outputs: readonly Tensor[], fuse = true): Lowering {
  return Executable.build(defaultDevice(), inputs, outputs, { fuse }).lowering;
}
const kernels = (program: Lowering): string[] => program.instructions.map((i) => i.kernel);

describe('dead code', () => {
  it('is never in the program', () => {
    const x = placeholder(3, 4);
    ops.matmul(x, ops.transpose(x));
    const { values } = ops.sort(x);
    ops.softmax(values);
    expect(kernels(lowered([x], [values]))).toEqual(['sort']);
  });
});

describe('fusion', () => {
  const x = placeholder(8, 33);

  it('makes one instruction of ten elementwise ops', () => {
    let y = x;
    for (let i = 0; i < 5; i++) y = ops.mul(ops.add(y, 0.5), ops.tanh(y));
    expect(kernels(lowered([x], [y]))).toEqual(['elementwise']);
    const text = describeProgram(lowered([x], [y]));
    expect(text.split('\n')).toHaveLength(2);
    expect(text).toContain('input0:f32[8, 33] → output0:f32[8, 33]');
    expect(kernels(lowered([x], [y], false)).length).toBeGreaterThan(10);
  });

  it('joins silu(gate) · up', () => {
    const up = placeholder(8, 33);
    expect(kernels(lowered([x, up], [ops.mul(ops.silu(x), up)]))).toEqual(['elementwise']);
  });

  it('reads broadcast operands in place', () => {
    const row = placeholder(33);
    const y = ops.mul(ops.add(x, row), ops.broadcastTo(ops.reshape(row, [1, 33]), [8, 33]));
    expect(kernels(lowered([x, row], [y]))).toEqual(['elementwise']);
  });

  it('computes once what two instructions read', () => {
    const shared = ops.exp(x);
    const program = lowered([x], [ops.add(ops.sum(shared, 0), 1), ops.mul(shared, 2)]);
    expect(kernels(program).filter((k) => k === 'sum')).toHaveLength(1);
    const exps = program.instructions.filter((i) => i.nodes.some((n) => n.op.name === 'exp'));
    expect(exps).toHaveLength(1);
  });

  it('computes once what is also an output', () => {
    const y = ops.exp(x);
    expect(
      lowered([x], [ops.add(y, 1), y]).instructions.filter((i) => i.nodes.some((n) => n.op.name === 'exp')),
    ).toHaveLength(1);
  });

  it('computes a row once, not for every row that it is added to', () => {
    const row = placeholder(33);
    const program = lowered([x, row], [ops.mul(ops.add(x, ops.exp(row)), 2)]);
    expect(program.instructions.map((i) => i.outputs[0]?.shape)).toEqual([[33], [8, 33]]);
  });

  it('rounds to f16 between instructions', async () => {
    const y = ops.add(ops.cast(ops.cast(ops.mul(x, 1), 'f16'), 'f32'), 0);
    expect(kernels(lowered([x], [y]))).toEqual(['elementwise', 'elementwise']);
    const data = await ops.cast(ops.cast(tensor([0.1, 2049]), 'f16'), 'f32').data();
    expect([...data]).toEqual([0.0999755859375, 2048]);
  });

  it('keeps f16 constants as coarse as f16', async () => {
    const half = ops.cast(tensor([1, 3]), 'f16');
    const y = ops.cast(ops.mul(half, 0.1), 'f32');
    const [fused] = await runNative(defaultDevice(), [], () => [y]);
    const [unfused] = await runNative(defaultDevice(), [], () => [y], { fuse: false });
    expect(fused?.bits).toEqual(unfused?.bits);
  });

  it('cuts chains that are too long, and too wide', async () => {
    let deep = x;
    for (let i = 0; i < 200; i++) deep = ops.add(ops.mul(deep, 0.9), 0.01 * (i % 7));
    const wide = Array.from({ length: 20 }, (_, i) => ops.mul(x, i + 1)).reduce((a, b) => ops.add(a, b));
    const leaves = Array.from({ length: 20 }, () => placeholder(8, 33));
    const sum = leaves.reduce((a, b) => ops.add(a, b));
    expect(kernels(lowered([x], [deep])).length).toBeLessThan(12);
    expect(kernels(lowered([x], [wide]))).toEqual(['elementwise']);
    expect(kernels(lowered(leaves, [sum])).length).toBeLessThanOrEqual(4);
    const inputs = leaves.map((_, i) => random([8, 33], i + 1));
    const build = (list: readonly OpInput[]): Tensor[] => [
      (list as Tensor[]).reduce((a, b) => ops.add(a, b)),
    ];
    const [got] = await runNative(defaultDevice(), inputs, build);
    expect(mismatch(got?.value as Value, interpret(build(inputs))[0] as Value)).toBeNull();
  });

  it('takes the longest code that a chain can have', async () => {
    // two constants and a select a node: more code than nodes
    const condition = tensor(Uint8Array.of(1, 0, 1), [3], 'bool');
    let y = tensor([0.1, 0.2, 0.3]);
    for (let i = 0; i < 60; i++)
      y = ops.where(ops.less(y, i / 60), ops.where(condition, i / 50, -i / 70), ops.add(y, 0.015));
    const [got] = await runNative(defaultDevice(), [], () => [y]);
    expect(mismatch(got?.value as Value, interpret([y])[0] as Value)).toBeNull();
  });

  it('runs linears of one input as one instruction', async () => {
    const h = placeholder(5, 16);
    const weights = await Promise.all([8, 24, 3].map((rows, i) => packWeight(weight(rows, 16), i + 1)));
    const outputs = weights.map((w) => ops.linear(h, w));
    const program = lowered([h], outputs);
    expect(kernels(program)).toEqual(['linear']);
    expect(program.instructions[0]?.outputs.map((v) => v.shape)).toEqual([
      [5, 8],
      [5, 24],
      [5, 3],
    ]);
    const [a, b] = weights as [(typeof weights)[0], (typeof weights)[0]];
    expect(kernels(lowered([h], [ops.linear(h, a), ops.linear(h, b, 'bf16')]))).toEqual(['linear', 'linear']);
    expect(
      kernels(lowered([h], [ops.linear(h, a), ops.linear(ops.neg(h), b)])).filter((k) => k === 'linear'),
    ).toHaveLength(2);
    const x = random([5, 16]);
    const results = await runNative(defaultDevice(), [x], ([t]) =>
      weights.map((w) => ops.linear(t as Tensor, w)),
    );
    const expected = interpret(weights.map((w) => ops.linear(x, w)));
    results.forEach((r, i) => {
      expect(mismatch(r.value, expected[i] as Value)).toBeNull();
    });
  });

  it('joins linears whose input is the result of an earlier one of the group', async () => {
    const w = await packWeight(weight(16, 16));
    const x = random([2, 16]);
    const build = ([t]: readonly OpInput[]): Tensor[] => {
      const first = ops.linear(t as Tensor, w);
      return [ops.linear(first, w), ops.linear(t as Tensor, w)];
    };
    const results = await runNative(defaultDevice(), [x], build);
    const expected = interpret(build([x]));
    results.forEach((r, i) => {
      expect(mismatch(r.value, expected[i] as Value)).toBeNull();
    });
  });
});

// ---- random graphs

const SHAPE = [4, 6];
/** Steps of random graphs: bounded and continuous, so that f32 stays near float64 however deep the graph is. */
const STEPS: readonly ((a: Tensor, b: Tensor) => Tensor)[] = [
  (a) => ops.neg(a),
  (a) => ops.tanh(a),
  (a, b) => ops.mul(ops.add(a, b), 0.5),
  (a, b) => ops.mul(a, b),
  (a, b) => ops.maximum(a, b),
  (a) => ops.reshape(ops.transpose(a), SHAPE),
  (a) => ops.mul(ops.sub(a, ops.mean(a, 1, { keepDims: true })), 0.5),
  (a) => ops.softmax(a),
  (a, b) => ops.concat([ops.slice(a, 0, 0, 2), ops.slice(b, 0, 1, 3)], 0),
  (a, b) => ops.mul(ops.matmul(ops.matmul(a, b, { transposeB: true }), a), 1 / 24),
  (a, b) => ops.where(ops.less(ops.iota(SHAPE, 1), 3), a, b),
  (a) => ops.mul(ops.cumsum(a, 0), 0.25),
  (a) => ops.mul(ops.rmsNorm(a, null, { eps: 0.5 }), 0.5),
  (a) => ops.sort(a).values,
  (a, b) => ops.mul(ops.add(a, ops.slice(b, 0, 1, 2)), 0.5),
  (a) => ops.stopGradient(a),
  (a, b) => ops.takeRows(ops.add(a, ops.sum(b, 0)), tensor(Int32Array.of(3, -1, 0, 0))),
  (a) => ops.sigmoid(ops.add(a, ops.full(SHAPE, 0.1))),
  (a) => ops.unslice(ops.slice(a, 1, 2, 5), [0, 1], SHAPE),
  (a, b) => ops.mul(ops.broadcastTo(ops.reshape(ops.max(a, 1), [4, 1]), SHAPE), b),
];
const graph = fc.record({
  steps: fc.array(fc.tuple(fc.nat(STEPS.length - 1), fc.nat(), fc.nat()), { minLength: 1, maxLength: 25 }),
  outputs: fc.array(fc.nat(), { minLength: 1, maxLength: 4 }),
});
type Graph = typeof graph extends fc.Arbitrary<infer T> ? T : never;

function buildGraph({ steps, outputs }: Graph, leaves: readonly Tensor[]): Tensor[] {
  const all = [...leaves];
  const pick = (i: number): Tensor => all[i % all.length] as Tensor;
  for (const [step, a, b] of steps) all.push((STEPS[step] as (typeof STEPS)[0])(pick(a), pick(b)));
  return [all[all.length - 1] as Tensor, ...outputs.map(pick)];
}

/** Intermediates that are in use at the same instruction and share bytes. */
function overlaps(program: Lowering): string[] {
  const lives = new Map<Storage, [number, number]>();
  program.instructions.forEach(({ inputs, outputs }, i) => {
    for (const v of [...inputs, ...outputs]) {
      if (v?.storage.kind === 'arena') lives.set(v.storage, [lives.get(v.storage)?.[0] ?? i, i]);
    }
  });
  const list = [...lives];
  return list.flatMap(([a, [from, to]], i) =>
    list.slice(i + 1).flatMap(([b, [start, end]]) => {
      const together = from <= end && start <= to;
      const shared = a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
      return together && shared ? [`@${a.offset}+${a.bytes} and @${b.offset}+${b.bytes}`] : [];
    }),
  );
}

describe('random graphs', () => {
  const leaves = [random(SHAPE, 1), random(SHAPE, 2), random(SHAPE, 3)];

  it('give the same fused, unfused and in float64, in an arena without overlaps', async () => {
    await fc.assert(
      fc.asyncProperty(graph, async (g) => {
        const expected = interpret(buildGraph(g, leaves));
        for (const fuse of [true, false]) {
          const got = await runNative(defaultDevice(), leaves, (list) => buildGraph(g, list as Tensor[]), {
            fuse,
          });
          expected.forEach((e, i) => {
            expect(
              mismatch((got[i] as { value: Value }).value, e, GRAPH_TOLERANCE),
              `output ${i}, fuse ${fuse}`,
            ).toBeNull();
          });
          const open = leaves.map((t) => Tensor.placeholder(t.dtype, t.shape));
          const program = lowered(open, buildGraph(g, open), fuse);
          expect(overlaps(program)).toEqual([]);
          const sizes = new Map<Storage, number>();
          for (const i of program.instructions)
            for (const v of [...i.inputs, ...i.outputs])
              if (v?.storage.kind === 'arena') sizes.set(v.storage, Math.ceil(v.storage.bytes / 64) * 64);
          expect(program.arenaBytes).toBeLessThanOrEqual([...sizes.values()].reduce((a, b) => a + b, 0));
        }
      }),
      { numRuns: 120, seed: 20261123 },
    );
  });

  it('reuse memory along a chain', () => {
    let y = placeholder(64, 64);
    const x = y;
    for (let i = 0; i < 20; i++) y = ops.softmax(y);
    expect(lowered([x], [y]).arenaBytes).toBe(2 * 64 * 64 * 4);
  });

  it('give the same bits fused on every number of threads', async () => {
    const [g] = fc.sample(graph, { seed: 5, numRuns: 1 }) as [Graph];
    const runs = await Promise.all(
      [1, 2, 4].map((n) =>
        runNative(deviceOf(tiers()[0] as 'scalar', n), leaves, (l) => buildGraph(g, l as Tensor[])),
      ),
    );
    for (const run of runs) expect(run.map((r) => r.bits)).toEqual(runs[0]?.map((r) => r.bits));
  });
});

describe('compile', () => {
  it('builds one program for each combination of shapes and dtypes', async () => {
    const fn = vi.fn((x: Tensor, y: Tensor) => ops.add(x, y));
    const add = compile(fn);
    expect(add.programs).toBe(0);
    expect([...(await (await add(tensor([1, 2]), tensor([3, 4]))).data())]).toEqual([4, 6]);
    expect([...(await (await add(tensor([5, 6]), tensor([1, 1]))).data())]).toEqual([6, 7]);
    expect([add.programs, fn.mock.calls.length]).toEqual([1, 1]);
    await add(tensor([1, 2]), tensor([[3], [4]]));
    await add(tensor([1, 2], [2], 'i32'), tensor([3, 4], [2], 'i32'));
    expect([add.programs, fn.mock.calls.length]).toEqual([3, 3]);
    add.dispose();
    expect(add.programs).toBe(0);
    expect([...(await (await add(tensor([1, 2]), tensor([3, 4]))).data())]).toEqual([4, 6]);
  });

  it('takes and gives trees, and tells their forms apart', async () => {
    const fn = compile((p: { w: Tensor; rest: Tensor[] }) => ({
      total: ops.add(p.w, p.rest[0] as Tensor),
      all: p.rest,
    }));
    const one = await fn({ w: tensor([1]), rest: [tensor([2])] });
    expect([await one.total.item(), one.all.length, await one.all[0]?.item()]).toEqual([3, 1, 2]);
    const two = await fn({ w: tensor([1]), rest: [tensor([2]), tensor([7])] });
    expect([two.all.length, await two.all[1]?.item(), fn.programs]).toEqual([2, 7, 2]);
  });

  it('evaluates arguments that are graphs', async () => {
    const fn = compile((x: Tensor) => ops.mul(x, 2));
    expect(await (await fn(ops.add(tensor([1]), 2))).item()).toBe(6);
  });

  it('keeps apart calls that overlap', async () => {
    const fn = compile((x: Tensor) => ops.sum(ops.mul(x, x)));
    const results = await Promise.all(Array.from({ length: 20 }, (_, i) => fn(ops.full([100], i))));
    expect(await Promise.all(results.map((r) => r.item()))).toEqual(
      Array.from({ length: 20 }, (_, i) => 100 * i * i),
    );
  });

  it('takes run-time integers without a new program', async () => {
    const seed = runtimeInt('seed');
    const noise = compile((x: Tensor) => ops.add(x, ops.randomUniform([5], { seed })));
    const at = async (n: number): Promise<number[]> => [
      ...(await (await noise.withInts({ seed: n }, ops.zeros([5]))).data()),
    ];
    const [a, b, again] = [await at(1), await at(2), await at(1)];
    expect(again).toEqual(a);
    expect(b).not.toEqual(a);
    expect(noise.programs).toBe(1);
    expect(a).toEqual([...(await ops.randomUniform([5], { seed: 1 }).data())]);
    await expect(noise(ops.zeros([5]))).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringContaining("'seed'"),
    });
    await expect(noise.withInts({ seed: 0.5 }, ops.zeros([5]))).rejects.toMatchObject({ code: 'ERR_OPTION' });
  });

  it('keeps the values of tensors it closes over', async () => {
    const scale = tensor([10]);
    const fn = compile((x: Tensor) => ops.mul(x, scale));
    expect(await (await fn(tensor([2]))).item()).toBe(20);
  });
});

describe('outputs', () => {
  const x = tensor([1, 2, 3]);
  const run = async (build: (t: Tensor) => Tensor[]): Promise<number[][]> =>
    (await runNative(defaultDevice(), [x], ([t]) => build(t as Tensor))).map((r) => [...r.value.data]);

  it('may be inputs, constants, views and duplicates', async () => {
    const c = tensor([[7, 8]]);
    expect(
      await run((t) => {
        const y = ops.neg(t);
        const view = ops.reshape(y, [3, 1]);
        return [
          t,
          c,
          y,
          y,
          view,
          ops.reshape(t, [1, 3]),
          ops.full([2], 5),
          ops.broadcastTo(t, [2, 3]),
          ops.slice(view, 0, 1),
        ];
      }),
    ).toEqual([
      [1, 2, 3],
      [7, 8],
      [-1, -2, -3],
      [-1, -2, -3],
      [-1, -2, -3],
      [1, 2, 3],
      [5, 5],
      [1, 2, 3, 1, 2, 3],
      [-2, -3],
    ]);
  });

  it('may have no elements', async () => {
    expect(
      await run(() => [
        ops.zeros([0, 3]),
        ops.sum(ops.zeros([0, 3]), 0),
        ops.matmul(ops.zeros([2, 0]), ops.zeros([0, 2])),
      ]),
    ).toEqual([[], [0, 0, 0], [0, 0, 0, 0]]);
  });

  it('of one call do not share memory', async () => {
    const twice = compile((t: Tensor) => {
      const y = ops.add(t, 1);
      return [y, y];
    });
    const cache = ops.zeros([1, 1, 3, 1]);
    const [a, b] = (await twice(cache)) as [Tensor, Tensor];
    const write = compile((c: Tensor) =>
      ops.sum(ops.kvWrite(c, ops.full([1, 1, 1], 9), tensor(Int32Array.of(2)))),
    );
    expect(await (await write(a)).item()).toBe(11);
    expect([[...(await a.data())], [...(await b.data())]]).toEqual([
      [1, 1, 9],
      [1, 1, 1],
    ]);
  });
});

describe('writing in place', () => {
  const cache = placeholder(2, 1, 4, 3);
  const rows = placeholder(2, 1, 3);
  const slots = Tensor.placeholder('i32', [2]);
  const build = (outputs: Tensor[]): Lowering => lowered([cache, rows, slots], outputs);
  const written = ops.kvWrite(cache, rows, slots);
  const refused = { code: 'ERR_OPTION', message: expect.stringContaining('beside kv_write on one cache') };
  const errorOf = (outputs: Tensor[]): unknown => {
    try {
      build(outputs);
    } catch (error) {
      return error;
    }
    return null;
  };

  it('needs no copy of the cache', () => {
    expect(kernels(build([ops.sum(written)])).slice(0, 1)).toEqual(['kv_write']);
    expect(kernels(build([ops.sum(written)]))).not.toContain('strided_copy');
  });

  it('refuses a read of the cache beside the write', () => {
    expect(errorOf([written, ops.sum(cache)])).toMatchObject(refused);
    expect(errorOf([written, ops.sum(ops.reshape(cache, [24]))])).toMatchObject(refused);
    expect(errorOf([ops.sum(written), cache])).toMatchObject(refused);
    expect(errorOf([ops.sum(written), ops.reshape(cache, [24])])).toMatchObject(refused);
    expect(errorOf([written, ops.kvWrite(cache, ops.neg(rows), slots)])).toMatchObject(refused);
  });

  it('follows one write after another', async () => {
    const again = ops.kvWrite(written, ops.neg(rows), ops.add(slots, 1));
    expect(errorOf([ops.sum(again), written])).toMatchObject(refused);
    const inputs = [random([2, 1, 4, 3]), random([2, 1, 3], 2), tensor(Int32Array.of(0, 5))];
    const both = ([c, r, s]: readonly OpInput[]): Tensor[] => [
      ops.kvWrite(
        ops.kvWrite(c as Tensor, r as Tensor, s as Tensor),
        ops.neg(r as Tensor),
        ops.add(s as Tensor, 1),
      ),
    ];
    const [got] = await runNative(defaultDevice(), inputs, both);
    expect(mismatch(got?.value as Value, interpret(both(inputs))[0] as Value)).toBeNull();
  });

  it('changes the argument, and refuses one buffer for two arguments', async () => {
    const c = await compile((t: Tensor) => ops.add(t, 0))(ops.zeros([1, 1, 2, 1]));
    const write = compile((t: Tensor, x: Tensor) =>
      ops.sum(ops.kvWrite(t, ops.reshape(x, [2, 1, 1]), tensor(Int32Array.of(1, 0)))),
    );
    expect(await (await write(c, tensor([3, 4]))).item()).toBe(7);
    expect([...(await c.data())]).toEqual([4, 3]);
    const same = compile((t: Tensor, x: Tensor) =>
      ops.add(ops.sum(ops.kvWrite(t, ops.zeros([1, 1, 1]), tensor(Int32Array.of(0)))), ops.sum(x)),
    );
    await expect(same(c, c)).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_/) });
  });
});

describe('errors', () => {
  const x = tensor([[1, 2, 3]]);
  const ids = tensor(Int32Array.of(0));
  const table: [string, () => unknown, string, RegExp][] = [
    [
      'shapes that do not broadcast',
      () => ops.add(x, tensor([1, 2])),
      'ERR_SHAPE',
      /^\[add\] got shapes \[1, 3\] and \[2\], expected/,
    ],
    ['two dtypes', () => ops.mul(x, ids), 'ERR_DTYPE', /^\[mul\] got b of dtype i32, expected f32/],
    ['whole numbers where floats belong', () => ops.exp(ids), 'ERR_DTYPE', /^\[exp\] got x of dtype i32/],
    [
      'u32 in order',
      () => ops.less(tensor(Uint32Array.of(1)), tensor(Uint32Array.of(2))),
      'ERR_DTYPE',
      /^\[less\] got a of dtype u32/,
    ],
    [
      'a number out of range',
      () => ops.add(tensor(Uint8Array.of(1)), 300),
      'ERR_DTYPE',
      /^\[full\] got 300 for dtype u8/,
    ],
    ['a matrix product', () => ops.matmul(x, x), 'ERR_SHAPE', /^\[matmul\] got \[1, 1, 3\] and \[1, 1, 3\]/],
    ['an axis', () => ops.sum(x, 2), 'ERR_SHAPE', /^\[sum\] got axis 2, expected -2 to 1/],
    ['a maximum of nothing', () => ops.max(ops.zeros([2, 0]), 1), 'ERR_SHAPE', /^\[max\] got shape \[2, 0\]/],
    [
      'a reshape',
      () => ops.reshape(x, [2, 2]),
      'ERR_SHAPE',
      /^\[reshape\] got shape \[2, 2\] for 3 elements/,
    ],
    ['a slice', () => ops.slice(x, 1, 2, 5), 'ERR_SHAPE', /^\[slice\] got 2…5 on axis 1/],
    ['an order of axes', () => ops.transpose(x, [0, 0]), 'ERR_SHAPE', /^\[transpose\] got order \[0, 0\]/],
    ['a broadcast', () => ops.broadcastTo(x, [2, 4]), 'ERR_SHAPE', /^\[broadcast_to\] got \[1, 3\]/],
    ['k', () => ops.topK(x, 4), 'ERR_OPTION', /^\[top_k\] got k 4, expected a whole number from 1 to 3/],
    ['ids', () => ops.takeRows(x, x), 'ERR_DTYPE', /^\[take_rows\] got ids of dtype f32/],
    [
      'heads',
      () => ops.attention(ops.zeros([1, 3, 4]), ops.zeros([1, 2, 4]), ops.zeros([1, 2, 4]), ids, ids),
      'ERR_SHAPE',
      /^\[attention\] got 3 query heads for 2 key heads/,
    ],
    ['a seed', () => ops.randomUniform([2], { seed: -1 }), 'ERR_OPTION', /^\[random_uniform\] got seed -1/],
    ['a rank', () => ops.zeros([1, 1, 1, 1, 1, 1, 1, 1, 1]), 'ERR_SHAPE', /^\[full\] got shape/],
    [
      'a stray placeholder',
      () => lowered([], [ops.neg(placeholder(2))]),
      'ERR_OPTION',
      /^\[compile\] got a placeholder Tensor\(f32 \[2\]\)/,
    ],
    [
      'an id out of range, when it runs',
      () => ops.takeRows(x, tensor(Int32Array.of(1))).data(),
      'ERR_OPTION',
      /^\[take_rows\] got/,
    ],
  ];
  it.each(table)('%s', async (_, work, code, message) => {
    const error = await (async () => work())().catch((e: unknown) => e);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  });
});

describe('evaluation', () => {
  it('lets go of the graph behind a tensor', async () => {
    const y = ops.mul(tensor([2]), 3);
    expect(y.source.kind).toBe('node');
    expect(await y.item()).toBe(6);
    expect(y.source.kind).toBe('buffer');
    expect(await ops.add(y, 1).item()).toBe(7);
  });

  it('compares with the twins under SWITCHYARD_VALIDATE', async () => {
    vi.stubEnv('SWITCHYARD_VALIDATE', '1');
    vi.stubEnv('SWITCHYARD_NO_FUSE', '');
    try {
      const { device } = await import('../../src/core/device.js');
      const on = device();
      const x = random([3, 7]);
      const program = Executable.build(on, [], [ops.softmax(x)]);
      expect(program.twin?.lowering.instructions.length).toBeGreaterThan(1);
      const outputs = await program.run([]);
      const wrong = [on.upload(new Float32Array(21).fill(1))];
      const types = program.lowering.outputs;
      const twin = (await program.twin?.run([])) ?? [];
      compareWithTwin(on, types, outputs, twin);
      expect(() => compareWithTwin(on, types, wrong, twin)).toThrow(
        expect.objectContaining({ code: 'ERR_NATIVE' }),
      );
    } finally {
      vi.unstubAllEnvs();
    }
  });
});
