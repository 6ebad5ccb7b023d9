/** Every case of every op: native results against the float64 interpreter, on every tier, for several thread counts. */
import { describe, expect, it } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { SwitchyardError } from '../../src/core/errors.js';
import { apply, type OpDef, type OpInput, opTable } from '../../src/core/op.js';
import '../../src/core/ops/index.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { plainAttention } from '../helpers/interpreter/attention.js';
import { viewOf } from '../helpers/interpreter/rule.js';
import type { Value } from '../helpers/interpreter/value.js';
import { interpret } from '../helpers/interpreter.js';
import { type OpCase, realize } from '../helpers/op-case.js';
import { deviceOf, runNative, tiers } from '../helpers/run-graph.js';
import { GRAPH_TOLERANCE, mismatch } from '../helpers/tolerance.js';
import { CASES, casesOf } from './cases/index.js';

const THREADS = [1, 2, 4];
const label = (c: OpCase): string => `${c.op}: ${c.name}`;
const build =
  (c: OpCase) =>
  (inputs: readonly OpInput[]): readonly Tensor[] =>
    apply(opTable.get(c.op) as OpDef, inputs, c.attrs);

describe('native kernels agree with the float64 interpreter', () => {
  it.each(CASES.map((c) => [label(c), c] as const))('%s', async (_, c) => {
    const inputs = await realize(c);
    const expected = interpret(build(c)(inputs));
    const twin = opTable.get(c.op)?.twin !== undefined;
    for (const tier of tiers()) {
      let first: Uint8Array[] | null = null;
      for (const threads of THREADS) {
        const results = await runNative(deviceOf(tier, threads), inputs, build(c));
        expected.forEach((e, i) => {
          const got = results[i] as { value: Value };
          expect(mismatch(got.value, e, c.tolerance), `${tier}, output ${i}`).toBeNull();
        });
        const bits = results.map((r) => r.bits);
        first ??= bits;
        const same = bits.every((b, i) => Buffer.compare(b, first?.[i] as Uint8Array) === 0);
        expect(same, `${tier}, ${threads} threads give the bits of one`).toBe(true);
      }
      if (!twin) continue;
      const unfused = await runNative(deviceOf(tier), inputs, build(c), { fuse: false });
      expected.forEach((e, i) => {
        const got = unfused[i] as { value: Value };
        expect(
          mismatch(got.value, e, c.tolerance ?? GRAPH_TOLERANCE),
          `twin on ${tier}, output ${i}`,
        ).toBeNull();
      });
    }
  });
});

describe('a row alone gives the bits that it has among others', () => {
  const ROWWISE = [
    // on a GPU few rows and many are added in other orders (docs/kernels.md)
    ...(defaultDevice().kind === 'cpu' ? ['linear'] : []),
    'linear_transposed',
    'embedding',
    'softmax',
    'log_softmax',
    'rms_norm',
    'layer_norm',
    'sort',
    'top_k',
    'route_top_k',
  ];
  const first = (c: OpCase): readonly number[] => (c.inputs[0]?.kind === 'tensor' ? c.inputs[0].shape : []);
  const list = CASES.filter(
    (c) =>
      ROWWISE.includes(c.op) && (first(c)[0] ?? 0) > 1 && first(c).length === (c.op === 'embedding' ? 1 : 2),
  );

  it.each(list.map((c) => [label(c), c] as const))('%s', async (_, c) => {
    const [x, ...rest] = (await realize(c)) as [Tensor, ...OpInput[]];
    const rows = x.shape[0] as number;
    const values = deviceOf('scalar').read(x);
    const width = x.size / rows;
    for (const tier of tiers()) {
      const all = await runNative(deviceOf(tier), [x, ...rest], build(c));
      for (const r of new Set([0, rows >> 1, rows - 1])) {
        const row = Tensor.ofHost(values.slice(r * width, (r + 1) * width), x.dtype, [
          1,
          ...x.shape.slice(1),
        ]);
        const alone = await runNative(deviceOf(tier), [row, ...rest], build(c));
        alone.forEach(({ bits }, i) => {
          const among = (all[i] as { bits: Uint8Array }).bits.subarray(
            r * bits.length,
            (r + 1) * bits.length,
          );
          expect(Buffer.compare(bits, among), `${tier}, output ${i}, row ${r}`).toBe(0);
        });
      }
    }
  });
});

describe('the twin of attention agrees with a plain loop', () => {
  it.each(casesOf('attention').map((c) => [c.name, c] as const))('%s', async (_, c) => {
    const inputs = await realize(c);
    const [y] = build(c)(inputs) as [Tensor];
    if (y.source.kind !== 'node') throw new Error('no node');
    const values = inputs.map((x) => (x instanceof Tensor ? (interpret([x])[0] as Value) : null));
    const view = viewOf(
      y.source.node,
      (i) => values[i] as Value,
      () => {
        throw new Error('attention has no weights');
      },
      {},
    );
    const expected = { dtype: y.dtype, shape: y.shape, data: plainAttention(view)[0] as Float64Array };
    expect(mismatch(interpret([y])[0] as Value, expected)).toBeNull();
  });
});

describe('what infer accepts, the native loader accepts', () => {
  /** The same case with one input changed: another dtype, a longer axis, one axis more, one absent. */
  function* doctored(inputs: readonly OpInput[]): Generator<[string, OpInput[]]> {
    for (const [i, x] of inputs.entries()) {
      const swap = (what: string, y: OpInput): [string, OpInput[]] => [
        `input ${i} ${what}`,
        inputs.map((z, j) => (j === i ? y : z)),
      ];
      yield swap('absent', null);
      if (!(x instanceof Tensor)) continue;
      for (const dtype of ['f32', 'f16', 'bf16', 'i32', 'u32', 'u8', 'bool'] as const)
        if (dtype !== x.dtype) yield swap(dtype, Tensor.placeholder(dtype, x.shape));
      yield swap('with an axis more', Tensor.placeholder(x.dtype, [...x.shape, 1]));
      if (x.rank > 0) yield swap('with an axis less', Tensor.placeholder(x.dtype, x.shape.slice(1)));
      for (let axis = 0; axis < x.rank; axis++)
        yield swap(
          `longer on axis ${axis}`,
          Tensor.placeholder(
            x.dtype,
            x.shape.map((d, a) => (a === axis ? d + 1 : d)),
          ),
        );
    }
  }

  it.each([...opTable.values()].map((op) => [op.name, op] as const))('%s', async (name, op) => {
    for (const c of casesOf(name)) {
      for (const [what, inputs] of doctored(await realize(c))) {
        let outputs: readonly Tensor[];
        try {
          outputs = apply(op, inputs, c.attrs);
        } catch (error) {
          expect(error, `${label(c)} with ${what}`).toBeInstanceOf(SwitchyardError);
          expect((error as Error).message).toMatch(/^\[.+\] got .+, expected /s);
          continue;
        }
        const open = [
          ...new Set(inputs.filter((x) => x instanceof Tensor && x.source.kind === 'placeholder')),
        ];
        expect(
          () => Executable.build(deviceOf('scalar'), open as Tensor[], outputs),
          `${label(c)} with ${what}`,
        ).not.toThrow();
      }
    }
  });
});
