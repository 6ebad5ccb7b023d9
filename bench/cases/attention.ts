import type { NativeBuffer } from '../../src/core/addon.js';
import { attention, type PagedKeys, pagedAttention } from '../../src/core/ops/attention.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { KV_BLOCK } from '../../src/nn/kv-cache.js';
import { type Bench, defineCase } from '../harness/case.js';
import { measure } from '../harness/measure.js';
import { randomValues } from '../harness/random-weights.js';

const HEADS = 32;
const KV_HEADS = 8;
const HEAD_DIM = 128;

export default defineCase({
  about: 'attention: a prompt against the f32 rate, a decode step over a paged cache against the bandwidth',
  words: ['ops', 'kv-cache'],
  async run(bench) {
    const lengths = bench.options.smoke ? [64] : [512, 4096];
    for (const length of lengths) {
      if (length <= 1024) await prompt(bench, length);
      await step(bench, length);
    }
  },
});

async function prompt({ device, options, limits, emit }: Bench, n: number): Promise<void> {
  const sizes = [HEADS, KV_HEADS, KV_HEADS];
  const [q, k, v] = sizes.map((h) => Tensor.placeholder('f32', [n, h, HEAD_DIM])) as [Tensor, Tensor, Tensor];
  const offsets = Tensor.placeholder('i32', [2]);
  const program = Executable.build(device, [q, k, v, offsets], [attention(q, k, v, offsets, offsets)]);
  const inputs: NativeBuffer[] = sizes.map((h, i) =>
    device.addon.bufferFrom(randomValues(n * h * HEAD_DIM, i + 1)),
  );
  inputs.push(device.addon.bufferFrom(Int32Array.of(0, n)));
  const times = await timeOf(options, device, program, inputs);
  // Scores and mixing, of the half that a causal mask leaves.
  const flops = 2 * n * (n + 1) * HEADS * HEAD_DIM;
  const limit = await limits.operations('f32');
  const values = times.map((ms) => flops / ms / 1e6);
  const shape = `${n} tokens, ${HEADS}/${KV_HEADS} heads of ${HEAD_DIM}`;
  emit({ metric: 'prompt', shape, unit: 'GFLOP/s', values, limit: limit && limit / 1e9 });
}

async function step({ device, options, limits, emit }: Bench, length: number): Promise<void> {
  const blocks = Math.ceil(length / KV_BLOCK);
  const q = Tensor.placeholder('f32', [1, HEADS, HEAD_DIM]);
  const cache = (): Tensor => Tensor.placeholder('f32', [blocks, KV_HEADS, KV_BLOCK, HEAD_DIM]);
  // Caches of several layers in one program: together they are larger than the inner caches of the processor.
  const layers = options.smoke ? 1 : Math.max(4, Math.ceil((256 << 20) / (8 * length * KV_HEADS * HEAD_DIM)));
  const lengths = Tensor.placeholder('i32', [1]);
  const offsets = Tensor.placeholder('i32', [2]);
  const blockTable = Tensor.placeholder('i32', [1, blocks]);
  const keys: PagedKeys[] = Array.from({ length: layers }, () => ({
    k: cache(),
    v: cache(),
    lengths,
    blockTable,
  }));
  let x = q;
  for (const layer of keys) x = pagedAttention(x, layer, offsets);
  const program = Executable.build(
    device,
    [q, lengths, offsets, blockTable, ...keys.flatMap(({ k, v }) => [k, v])],
    [x],
  );
  const { addon } = device;
  const values = randomValues(blocks * KV_HEADS * KV_BLOCK * HEAD_DIM);
  const inputs = [
    addon.bufferFrom(randomValues(HEADS * HEAD_DIM)),
    addon.bufferFrom(Int32Array.of(length)),
    addon.bufferFrom(Int32Array.of(0, 1)),
    addon.bufferFrom(Int32Array.from({ length: blocks }, (_, i) => i)),
    ...keys.flatMap(() => [addon.bufferFrom(values), addon.bufferFrom(values)]),
  ];
  const times = await timeOf(options, device, program, inputs);
  const bytes = layers * 2 * length * KV_HEADS * HEAD_DIM * 4;
  emit({
    metric: 'step',
    shape: `1 token over ${length}, ${HEADS}/${KV_HEADS} heads of ${HEAD_DIM}`,
    unit: 'GB/s',
    values: times.map((ms) => bytes / ms / 1e6),
    limit: (await limits.bandwidth()) / 1e9,
  });
}

async function timeOf(
  options: Bench['options'],
  device: Bench['device'],
  program: Executable,
  inputs: NativeBuffer[],
): Promise<number[]> {
  const times = await measure(options, async () => {
    const start = performance.now();
    const outputs = await program.run(inputs);
    const time = performance.now() - start;
    for (const y of outputs) device.addon.disposeBuffer(y);
    return time;
  });
  program.dispose();
  for (const b of inputs) device.addon.disposeBuffer(b);
  return times;
}
