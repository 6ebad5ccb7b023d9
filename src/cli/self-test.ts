/** Small programs with known results, run on every tier of this machine. Nothing is loaded. */
import { type Device, device as makeDevice } from '../core/device.js';
import type { Tier } from '../core/env.js';
import type { ComputeMode } from '../core/format.js';
import { add } from '../core/ops/elementwise.js';
import { matmul } from '../core/ops/linalg.js';
import { linear } from '../core/ops/linear.js';
import { softmax } from '../core/ops/norm.js';
import { evaluate } from '../core/program/compile.js';
import { type Tensor, tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import { MoELayer } from '../moe/layer.js';
import { Linear } from '../nn/linear.js';

export interface SelfTestResult {
  readonly tier: string;
  readonly test: string;
  readonly ok: boolean;
  /** Largest difference from the known values. */
  readonly error?: number;
  readonly message?: string;
}

interface Trial {
  readonly name: string;
  /** Absolute; the values are of size 1 to 100. */
  readonly tolerance: number;
  run(device: Device): Promise<{ got: ArrayLike<number>; want: ArrayLike<number> }>;
}

/** Whole numbers from -5 to 5 that look random: every sum of their products is exact in float32. */
const values = (n: number, step: number): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => ((i * step + 7) % 11) - 5);

/** a [m, k] times the transpose of b [n, k], in JavaScript's numbers. */
function product(a: Float32Array, b: Float32Array, m: number, n: number, k: number): number[] {
  return Array.from({ length: m * n }, (_, at) => {
    const [row, column] = [Math.floor(at / n), at % n];
    let sum = 0;
    for (let i = 0; i < k; i++) sum += (a[row * k + i] as number) * (b[column * k + i] as number);
    return sum;
  });
}

// Odd sizes, so that panels, vectors and blocks have remainders.
const [M, N, K] = [3, 37, 64];
const x = values(M * K, 3);
const w = values(N * K, 5);

async function read(device: Device, t: Tensor): Promise<ArrayLike<number>> {
  await evaluate([t], device);
  return device.read(t);
}

async function pack(device: Device, data: Float32Array, rows: number, columns: number): Promise<Weight> {
  const parts = [{ data, offset: 0, bytes: data.byteLength }];
  const source = { format: 'f32', experts: 1, rows, columns, parts };
  const native = await device.addon.packWeight(device.native, source);
  return new Weight(native, 'f32', 1, rows, columns, device.addon.weightInfo(native).bytes);
}

const linearTrial = (compute: ComputeMode, tolerance: number): Trial => ({
  name: `linear ${compute}`,
  tolerance,
  async run(device) {
    const y = linear(tensor(x, [M, K]), await pack(device, w, N, K), compute);
    return { got: await read(device, y), want: product(x, w, M, N, K) };
  },
});

const TRIALS: readonly Trial[] = [
  {
    name: 'matmul',
    tolerance: 0,
    async run(device) {
      const y = add(matmul(tensor(x, [M, K]), tensor(w, [N, K]), { transposeB: true }), 1);
      return { got: await read(device, y), want: product(x, w, M, N, K).map((v) => v + 1) };
    },
  },
  {
    name: 'softmax',
    tolerance: 1e-6,
    async run(device) {
      const logits = x.subarray(0, 19);
      const sum = logits.reduce((total, v) => total + Math.exp(v), 0);
      const want = Array.from(logits, (v) => Math.exp(v) / sum);
      return { got: await read(device, softmax(tensor(logits, [1, 19]))), want };
    },
  },
  linearTrial('f32', 0),
  linearTrial('bf16', 0), // small whole numbers are exact in bf16
  {
    name: 'sparse layer',
    tolerance: 1e-4,
    run: sparseLayer,
  },
];

/** A router that knows the answer: token t wants expert t alone (K = 1, weight 1); experts scale their input. */
async function sparseLayer(device: Device): Promise<{ got: ArrayLike<number>; want: ArrayLike<number> }> {
  const size = 4;
  const identity = (scale: (row: number) => number): Float32Array =>
    Float32Array.from({ length: size * size }, (_, i) =>
      Math.floor(i / size) === i % size ? scale(Math.floor(i / size)) : 0,
    );
  const stack = (scale: (e: number) => number): Tensor =>
    tensor(Float32Array.from(Array.from({ length: size }, (_, e) => [...identity(() => scale(e))]).flat()), [
      size,
      size,
      size,
    ]);
  const experts = { gate: null, up: stack((e) => e + 1), down: stack(() => 1) };
  const layer = new MoELayer(
    { dModel: size, dFf: size, nExperts: size, topK: 1, activation: 'relu' },
    {
      router: new Linear(
        tensor(
          identity(() => 10),
          [size, size],
        ),
      ),
      experts,
    },
  );
  const tokens = identity((row) => row + 2); // token t is (t + 2) · e_t
  const { output } = layer.forward(tensor(tokens, [size, size]));
  return { got: await read(device, output), want: identity((t) => (t + 2) * (t + 1)) };
}

/** Runs every trial on every tier. Never throws: what goes wrong stands in the results. */
export async function selfTest(tiers: readonly string[]): Promise<SelfTestResult[]> {
  const results: SelfTestResult[] = [];
  for (const tier of tiers) {
    for (const trial of TRIALS) {
      const name = { tier, test: trial.name };
      try {
        const { got, want } = await trial.run(makeDevice({ isa: tier as Tier }));
        let error = got.length === want.length ? 0 : Number.POSITIVE_INFINITY;
        for (let i = 0; i < want.length; i++) {
          const off = Math.abs((got[i] as number) - (want[i] as number));
          error = Math.max(error, Number.isNaN(off) ? Number.POSITIVE_INFINITY : off);
        }
        results.push({ ...name, ok: error <= trial.tolerance, error });
      } catch (error) {
        results.push({ ...name, ok: false, message: error instanceof Error ? error.message : String(error) });
      }
    }
  }
  return results;
}
