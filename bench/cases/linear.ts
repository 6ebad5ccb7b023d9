import type { NativeBuffer } from '../../src/core/addon.js';
import type { ComputeMode, WeightFormat } from '../../src/core/format.js';
import { linear } from '../../src/core/ops/linear.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import type { Weight } from '../../src/core/weight.js';
import { type Bench, defineCase } from '../harness/case.js';
import { rotationBytes } from '../harness/machine.js';
import { measure } from '../harness/measure.js';
import { checkFormats, computeOf, randomValues, randomWeight } from '../harness/random-weights.js';

const FORMATS: readonly WeightFormat[] = [
  'f32',
  'bf16',
  'q8_0',
  'int8',
  'int8_g128',
  'q4_0',
  'q4_1',
  'int4_g64',
  'int4_g128',
  'q4_k',
  'q6_k',
];
/** Few enough rows that reading the weights decides, enough that arithmetic does. */
const ROWS = [1, 8, 64, 512];
/** Weights behind one call from JavaScript at most, so that its cost does not count. */
const PER_CALL = 32;

export default defineCase({
  about: 'products with packed weights, per format: share of bandwidth at few rows, of arithmetic at many',
  words: ['gemv', 'gemm', 'matmul', 'ops'],
  async run(bench) {
    const { options, device } = bench;
    const size = options.smoke ? 256 : 4096;
    for (const format of checkFormats(options.formats, FORMATS)) {
      const first = await randomWeight(device, format, size, size);
      const count = options.smoke ? 2 : Math.max(4, Math.ceil(rotationBytes() / first.bytes));
      const weights = [first];
      while (weights.length < count) weights.push(await randomWeight(device, format, size, size));
      const modes: ComputeMode[] = [computeOf(format)];
      if (format === 'bf16' || format === 'f8_e4m3') modes.push('bf16');
      for (const mode of modes)
        for (const rows of options.smoke ? [1, 8] : ROWS) await run(bench, weights, mode, rows);
      for (const w of weights) device.addon.disposeWeight(w.native);
    }
  },
});

async function run(
  { options, device, limits, emit }: Bench,
  weights: readonly Weight[],
  mode: ComputeMode,
  rows: number,
): Promise<void> {
  const { format, rows: n, columns: k, bytes } = weights[0] as Weight;
  const inMany = rows > 32;
  const perCall = Math.min(weights.length, inMany ? 2 : PER_CALL);
  const programs: Executable[] = [];
  for (let at = 0; at + perCall <= weights.length; at += perCall) {
    // Every product has an input of its own: the compiler joins those that share one.
    const xs = weights.slice(at, at + perCall).map(() => Tensor.placeholder('f32', [rows, k]));
    const ys = xs.map((x, i) => linear(x, weights[at + i] as Weight, mode));
    programs.push(Executable.build(device, xs, ys));
  }
  const x = device.upload(randomValues(rows * k));
  const inputs: NativeBuffer[] = Array.from({ length: perCall }, () => x);
  let turn = 0;
  const times = await measure(options, async () => {
    const start = performance.now();
    const outputs = await (programs[turn++ % programs.length] as Executable).run(inputs);
    const time = performance.now() - start;
    for (const y of outputs) device.addon.disposeBuffer(y);
    return time / perCall;
  });
  const shape = `${rows} × ${k} → ${n}`;
  const named = mode === computeOf(format) ? format : `${format}/${mode}`;
  const flops = 2 * rows * n * k;
  if (inMany) {
    const limit = await limits.operations(mode);
    const unit = mode === 'int8' ? 'GOP/s' : 'GFLOP/s';
    const values = times.map((ms) => flops / ms / 1e6);
    emit({ metric: 'linear', shape, format: named, unit, values, limit: limit && limit / 1e9 });
  } else {
    const values = times.map((ms) => bytes / ms / 1e6);
    const limit = (await limits.bandwidth()) / 1e9;
    emit({ metric: 'linear', shape, format: named, unit: 'GB/s', values, limit });
  }
  for (const p of programs) p.dispose();
  device.addon.disposeBuffer(x);
}
