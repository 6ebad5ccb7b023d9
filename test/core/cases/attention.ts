// Rotary positions, attention over ragged and paged keys, writes to caches.
import type { Attrs } from '../../../src/core/op.js';
import { storedChannels } from '../../../src/core/ops/attention.js';
import type { Shape } from '../../../src/core/shape.js';
import {
  f32,
  type InputSpec,
  ids,
  literal,
  type OpCase,
  ofType,
  type TensorSpec,
} from '../../helpers/op-case.js';
import { fixed, into, offsetsOf } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);

one('rope_table', 'positions', [ids(0, 1, 7, 2, 4000), literal('f32', [1, 0.1, 0.01])], { scale: 1 });
one('rope_table', 'scaled', [ids(3), literal('f32', [0.5, 0.25, 0.125])], { scale: 1.25 });
one('rope_table', 'no rows', [literal('i32', [], [0]), f32([4])], { scale: 1 });
for (const interleaved of [0, 1]) {
  one(
    'rope',
    `whole head ${interleaved}`,
    [f32([5, 2, 6]), f32([5, 3]), f32([5, 3])],
    { interleaved },
    { constants: [1, 2] },
  );
  one(
    'rope',
    `part of the head ${interleaved}`,
    [f32([4, 3, 7]), f32([4, 2]), f32([4, 2])],
    { interleaved },
    { constants: [1, 2] },
  );
  one(
    'rope',
    `large ${interleaved}`,
    [f32([33, 4, 64]), f32([33, 32]), f32([33, 32])],
    { interleaved },
    fixed,
  );
  one(
    'rope',
    `no rows ${interleaved}`,
    [f32([0, 2, 4]), f32([0, 2]), f32([0, 2])],
    { interleaved },
    { constants: [1, 2] },
  );
}
interface Ragged {
  name: string;
  /** Heads, key groups, head size of keys and of values. */
  sizes: [h: number, g: number, c: number, cv: number];
  queries: number[];
  keys: number[];
  attrs?: Attrs;
  prefix?: number[];
  slopes?: boolean;
  sinks?: boolean;
  /** Entries of the position bias. */
  bias?: number;
}
const RAGGED: Ragged[] = [
  { name: 'one sequence', sizes: [2, 2, 4, 4], queries: [5], keys: [5] },
  { name: 'grouped heads, ragged', sizes: [4, 2, 3, 5], queries: [3, 1, 4], keys: [3, 1, 4] },
  { name: 'with a past', sizes: [2, 1, 4, 4], queries: [1, 2], keys: [6, 3] },
  { name: 'all keys seen', sizes: [2, 2, 4, 4], queries: [3, 2], keys: [3, 5], attrs: { causal: 0 } },
  { name: 'window', sizes: [2, 1, 4, 4], queries: [6, 2], keys: [6, 7], attrs: { window: 3 } },
  {
    name: 'window, all sides',
    sizes: [1, 1, 4, 2],
    queries: [4],
    keys: [6],
    attrs: { window: 2, causal: 0 },
  },
  { name: 'prefix', sizes: [2, 2, 4, 4], queries: [5, 4], keys: [5, 4], prefix: [3, 0] },
  {
    name: 'prefix and window',
    sizes: [2, 1, 4, 4],
    queries: [6],
    keys: [6],
    prefix: [2],
    attrs: { window: 2 },
  },
  { name: 'an empty sequence', sizes: [2, 1, 4, 4], queries: [2, 0, 3], keys: [2, 4, 3] },
  { name: 'more queries than keys', sizes: [1, 1, 4, 4], queries: [4], keys: [2] },
  { name: 'no keys', sizes: [2, 1, 4, 4], queries: [2, 1], keys: [0, 0] },
  { name: 'scale', sizes: [1, 1, 4, 4], queries: [3], keys: [3], attrs: { scale: 0.9 } },
  { name: 'nothing', sizes: [2, 1, 4, 4], queries: [0], keys: [3] },
  { name: 'one key head, narrow values', sizes: [4, 1, 9, 5], queries: [3, 1], keys: [3, 4] },
  { name: 'slopes', sizes: [4, 2, 3, 3], queries: [4, 1], keys: [4, 6], slopes: true },
  { name: 'sinks', sizes: [4, 2, 3, 3], queries: [4, 1], keys: [4, 6], sinks: true },
  { name: 'sinks, no keys', sizes: [2, 1, 4, 4], queries: [2, 1], keys: [0, 2], sinks: true },
  { name: 'bias', sizes: [4, 2, 3, 3], queries: [4, 2], keys: [4, 7], bias: 5, attrs: { left: 4 } },
  {
    name: 'bias on both sides',
    sizes: [2, 2, 3, 3],
    queries: [6],
    keys: [6],
    bias: 6,
    attrs: { left: 2, causal: 0 },
  },
  { name: 'bias far off', sizes: [2, 2, 3, 3], queries: [3], keys: [3], bias: 2, attrs: { left: 70 } }, // adds the same everywhere
  { name: 'softcap', sizes: [2, 1, 4, 4], queries: [4], keys: [5], attrs: { softcap: 0.7 } },
  {
    name: 'every term',
    sizes: [4, 2, 5, 3],
    queries: [5, 2],
    keys: [5, 30],
    prefix: [3, 0],
    slopes: true,
    sinks: true,
    bias: 9,
    attrs: { left: 7, softcap: 2, window: 12 },
  },
  { name: 'long', sizes: [4, 2, 20, 20], queries: [70, 1, 33], keys: [70, 150, 40] },
];
const total = (lengths: number[]): number => lengths.reduce((a, b) => a + b, 0);
const BLOCK = 16;
/** A cache of codes: for each page [channels · BLOCK] of them, and then BLOCK scales in f32. */
function codes(shape: Shape, pages: number, channels: number): TensorSpec {
  const page = (n: number): number[] => {
    const scales = Float32Array.from({ length: BLOCK }, (_, i) => 0.004 + 0.003 * ((7 * i + n) % 5));
    const values = Array.from({ length: channels * BLOCK }, (_, i) => (i * i * 31 + 17 * n + i) & 255);
    return [...values, ...new Uint8Array(scales.buffer)];
  };
  return literal('u8', Array.from({ length: pages }, (_, n) => page(n)).flat(), shape);
}
for (const { name, sizes, queries, keys, attrs = {}, prefix, slopes, sinks, bias } of RAGGED) {
  const [h, g, c, cv] = sizes;
  const [n, m] = [total(queries), total(keys)];
  const all = { scale: c ** -0.5, causal: 1, window: 0, softcap: 0, left: 0, ...attrs };
  const last = [
    prefix ? ids(...prefix) : null,
    slopes ? f32([h]) : null,
    sinks ? f32([h]) : null,
    bias ? f32([h, bias]) : null,
  ];
  const options = name === 'long' || name === 'bias far off' ? fixed : {};
  one(
    'attention',
    name,
    [
      f32([n, h, c]),
      f32([m, g, c]),
      f32([m, g, cv]),
      ids(...offsetsOf(queries)),
      ids(...offsetsOf(keys)),
      ...last,
    ],
    all,
    options,
  );
  if (queries.some((count, s) => count > (keys[s] as number))) continue; // new tokens are in the cache
  // Blocks of the sequences interleave: sequence s owns blocks s, s + S, s + 2S, …
  const most = Math.max(1, ...keys.map((k) => Math.ceil(k / BLOCK)));
  const table = keys.flatMap((k, s) =>
    Array.from({ length: most }, (_, b) => (b * BLOCK < k ? b * keys.length + s : -1)),
  );
  for (const dtype of ['f32', 'f16', 'bf16', 'u8'] as const) {
    const blocks = most * keys.length;
    const cache = (shape: Shape, channels: number): TensorSpec =>
      dtype === 'u8' ? codes(shape, blocks * g, channels) : ofType(dtype, shape);
    const paged = (label: string, v: TensorSpec | null): void =>
      one(
        'paged_attention',
        `${name} ${dtype}${label}`,
        [
          f32([n, h, c]),
          cache([blocks, g, storedChannels(dtype, c), BLOCK], c),
          v,
          ids(...offsetsOf(queries)),
          ids(...keys),
          literal('i32', table, [keys.length, most]),
          ...last,
        ],
        { ...all, values: v ? 0 : cv },
      );
    paged('', cache([blocks, g, BLOCK, storedChannels(dtype, cv)], cv));
    if (cv < c) paged(', values in keys', null);
  }
}
for (const dtype of ['f32', 'f16', 'bf16', 'u8'] as const) {
  for (const transpose of [0, 1]) {
    const name = transpose ? `${dtype} channels` : dtype;
    const write = (label: string, sizes: Shape, block: number, x: TensorSpec, slots: InputSpec): void => {
      const [blocks, g, c] = sizes as [number, number, number];
      const stored = storedChannels(dtype, c);
      const shape = transpose ? [blocks, g, stored, block] : [blocks, g, block, stored];
      const cache = dtype === 'u8' ? ofType('u8', shape, 0, 256) : ofType(dtype, shape);
      one('kv_write', `${name}${label}`, [cache, x, slots], { transpose });
    };
    write('', [3, 2, 5], 4, f32([4, 2, 5]), ids(0, 11, -1, 6));
    write(' twice in one place', [2, 3, 8], 4, f32([3, 3, 8]), ids(5, 2, 5));
    write(' nothing', [2, 1, 3], 4, f32([0, 1, 3]), literal('i32', [], [0]));
  }
}

for (const dtype of ['f32', 'f16', 'bf16', 'u8'] as const) {
  const cache = dtype === 'u8' ? ofType('u8', [4, 3, 5], 0, 256) : ofType(dtype, [4, 3, 5]);
  one('kv_copy', dtype, [cache, literal('i32', [0, 2, 3, 1], [2, 2])]);
  one('kv_copy', `${dtype} chained, skipped, onto itself`, [
    cache,
    literal('i32', [1, 0, -1, 2, 0, 3, 2, 2, 3, -1], [5, 2]),
  ]);
  one('kv_copy', `${dtype} nothing`, [cache, literal('i32', [], [0, 2])]);
}
