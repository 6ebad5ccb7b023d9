import type { NativeBuffer } from '../../src/core/addon.js';
import type { TypedArray } from '../../src/core/dtype.js';
import { KV_TYPES, type KvType, kvBytes } from '../../src/core/format.js';
import { type PagedKeys, pagedAttention, storedChannels } from '../../src/core/ops/attention.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { KV_BLOCK } from '../../src/nn/kv-blocks.js';
import { KV_DTYPE } from '../../src/nn/kv-cache.js';
import { type Bench, defineCase } from '../harness/case.js';
import { contest, converted } from '../harness/contest.js';
import { randomValues } from '../harness/random-weights.js';
import { TorchAttention } from '../harness/torch-attention.js';

const HEAD_DIM = 128;
/** Caches of several layers in one program: together more than the last cache of the processor holds. */
const CACHE_BYTES = 192 << 20;

interface Shape {
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly kvHeads: number;
}
/** A new token after so many: the heads of Llama 3 and Mixtral, of Qwen3-30B-A3B, of OLMoE. */
const STEPS: readonly Shape[] = [
  { queries: 1, keys: 512, heads: 32, kvHeads: 8 },
  { queries: 1, keys: 4096, heads: 32, kvHeads: 8 },
  { queries: 1, keys: 32768, heads: 32, kvHeads: 8 },
  { queries: 1, keys: 8192, heads: 32, kvHeads: 4 },
  { queries: 1, keys: 8192, heads: 16, kvHeads: 16 },
];
const PROMPTS: readonly Shape[] = [512, 2048].map((n) => ({ queries: n, keys: n, heads: 32, kvHeads: 8 }));
const SMOKE: readonly Shape[] = [
  { queries: 1, keys: 64, heads: 4, kvHeads: 2 },
  { queries: 32, keys: 32, heads: 4, kvHeads: 2 },
];
const SECONDS = 2;

export default defineCase({
  about: 'attention over a paged cache: a prompt against the f32 rate, a decode step against the bandwidth',
  words: ['ops', 'kv-cache', 'torch'],
  async run(bench) {
    const torch = await TorchAttention.start(bench.options, bench.note);
    try {
      for (const shape of bench.options.smoke ? SMOKE : [...PROMPTS, ...STEPS])
        for (const type of KV_TYPES) await one(bench, shape, type, torch);
    } finally {
      torch?.stop();
    }
  },
});

async function one(bench: Bench, shape: Shape, type: KvType, torch: TorchAttention | null): Promise<void> {
  const { device, options, limits, emit } = bench;
  const { queries, keys, heads, kvHeads } = shape;
  const bytes = 2 * keys * kvHeads * kvBytes(type, HEAD_DIM);
  const layers = queries > 1 || options.smoke ? 1 : Math.ceil(CACHE_BYTES / bytes);
  const { program, inputs } = attentionProgram(bench, shape, type, layers);
  const dtype = type === 'f32' ? 'float32' : type === 'bf16' ? 'bfloat16' : null;
  const peer = dtype === null ? null : torch;
  if (dtype !== null) await peer?.build({ ...shape, headDim: HEAD_DIM, layers, dtype });
  const ours = async (): Promise<number> => {
    const start = performance.now();
    const outputs = await program.run(inputs);
    const time = performance.now() - start;
    for (const y of outputs) device.addon.disposeBuffer(y);
    return time;
  };
  const step = queries === 1;
  const limited = { ...options, seconds: Math.min(options.seconds, SECONDS) };
  const result = await contest({ ...bench, options: limited }, ours, peer ? [peer] : [], [
    step ? 'read' : 'f32',
  ]);
  program.dispose();
  for (const b of inputs) device.addon.disposeBuffer(b);

  // Scores and mixing, of the half that a causal mask leaves.
  const flops = 2 * queries * (2 * keys - queries + 1) * heads * HEAD_DIM;
  const work = step ? layers * bytes : flops;
  const rate = (ms: number): number => work / ms / 1e6;
  const limit = step ? await limits.bandwidth() : await limits.operations('f32');
  emit({
    metric: step ? 'step' : 'prompt',
    shape: `${step ? `1 token over ${keys}` : `${queries} tokens`}, ${heads}/${kvHeads} heads of ${HEAD_DIM}`,
    format: type,
    unit: step ? 'GB/s' : 'GFLOP/s',
    values: result.ours.map(rate),
    limit: limit && limit / 1e9,
    peers: converted(result.peers, rate),
  });
}

/** Layers one after another, each with a cache of its own. */
function attentionProgram({ device }: Bench, shape: Shape, type: KvType, layers: number) {
  const { queries, keys, heads, kvHeads } = shape;
  const dtype = KV_DTYPE[type];
  const blocks = Math.ceil(keys / KV_BLOCK);
  const stored = storedChannels(dtype, HEAD_DIM);
  const q = Tensor.placeholder('f32', [queries, heads, HEAD_DIM]);
  const lengths = Tensor.placeholder('i32', [1]);
  const offsets = Tensor.placeholder('i32', [2]);
  const blockTable = Tensor.placeholder('i32', [1, blocks]);
  const caches: (PagedKeys & { v: Tensor })[] = Array.from({ length: layers }, () => ({
    k: Tensor.placeholder(dtype, [blocks, kvHeads, stored, KV_BLOCK]),
    v: Tensor.placeholder(dtype, [blocks, kvHeads, KV_BLOCK, stored]),
    lengths,
    blockTable,
  }));
  let x = q;
  for (const cache of caches) x = pagedAttention(x, cache, offsets);
  const program = Executable.build(
    device,
    [q, lengths, offsets, blockTable, ...caches.flatMap(({ k, v }) => [k, v])],
    [x],
  );
  const values = cacheValues(type, blocks * kvHeads);
  const inputs: NativeBuffer[] = [
    randomValues(queries * heads * HEAD_DIM, 1),
    Int32Array.of(keys),
    Int32Array.of(0, queries),
    Int32Array.from({ length: blocks }, (_, i) => i),
    ...caches.flatMap(() => [values, values]),
  ].map((array) => device.upload(array));
  return { program, inputs };
}

/** Keys or values of `pages` blocks and heads. */
function cacheValues(type: KvType, pages: number): TypedArray {
  const page = KV_BLOCK * HEAD_DIM;
  const values = randomValues(pages * page, 2);
  if (type === 'f32') return values;
  if (type !== 'int8') {
    // Signs and fractions at random, sizes from 1/16 to 1/4.
    const [exponent, random] = type === 'f16' ? [0x2c00, 0x87ff] : [0x3d80, 0x80ff];
    const bits = new Uint32Array(values.buffer);
    return Uint16Array.from(bits, (word) => exponent + ((word >>> 4) & random));
  }
  const scales = new Uint8Array(new Float32Array(KV_BLOCK).fill(1 / 512).buffer);
  const bytes = new Uint8Array(pages * (page + scales.length));
  for (let p = 0; p < pages; p++) {
    const at = p * (page + scales.length);
    for (let i = 0; i < page; i++) bytes[at + i] = (values[p * page + i] as number) * 127;
    bytes.set(scales, at + page);
  }
  return bytes;
}
