/** Rotary embedding and attention over ragged sequences, with and without a paged cache. */
import type { DType } from '../dtype.js';
import { SwitchyardError } from '../errors.js';
import {
  type Attr,
  apply,
  apply1,
  checkDType,
  checkInt,
  checkRank,
  checkSize,
  defineOp,
  type OpInput,
  tensorInput,
} from '../op.js';
import { type Shape, shapeText } from '../shape.js';
import type { Tensor } from '../tensor.js';
import {
  type AttentionOptions,
  changedScores,
  checkIndex,
  checkScoreAttrs,
  checkScoreInputs,
  lowerScoreAttrs,
  SCORE_ATTRS,
  scoreAttrs,
  scoreInputs,
  softmaxWithSinks,
} from './attention-scores.js';
import {
  add,
  and,
  cast,
  greater,
  greaterEqual,
  less,
  lessEqual,
  mul,
  neg,
  or,
  sub,
  where,
  zeros,
} from './elementwise.js';
import { takeRows } from './indexing.js';
import { matmul } from './linalg.js';
import { softmax } from './norm.js';
import { sum } from './reduce.js';
import { broadcastTo, concat, iota, reshape, slice, stack, transpose } from './shape.js';

const ropeTableOp = defineOp({
  name: 'rope_table',
  attrs: { scale: 'float' },
  infer(inputs) {
    const positions = tensorInput('rope_table', 'positions', inputs[0]);
    const frequencies = tensorInput('rope_table', 'frequencies', inputs[1]);
    checkDType('rope_table', 'positions', positions.dtype, 'i32');
    checkRank('rope_table', 'positions', positions.shape, 1);
    checkDType('rope_table', 'frequencies', frequencies.dtype, 'f32');
    checkRank('rope_table', 'frequencies', frequencies.shape, 1);
    const type = {
      dtype: 'f32' as const,
      shape: [positions.shape[0] as number, frequencies.shape[0] as number],
    };
    return [type, type];
  },
  gradient: 'nondifferentiable',
  lower: (node) => ({ kernel: 'rope_table', attrs: [{ type: 'float', value: node.attrs.scale as number }] }),
});
/** cos and sin of position · frequency, times `scale`: [N, r/2] each; shared by all layers. */
export function ropeTable(positions: Tensor, frequencies: Tensor, scale = 1): { cos: Tensor; sin: Tensor } {
  const [cos, sin] = apply(ropeTableOp, [positions, frequencies], { scale }) as [Tensor, Tensor];
  return { cos, sin };
}

const ropeOp = defineOp({
  name: 'rope',
  attrs: { interleaved: 'int' },
  infer(inputs) {
    const x = tensorInput('rope', 'x', inputs[0]); // [N, H, C]
    const cos = tensorInput('rope', 'cos', inputs[1]); // [N, r/2]
    const sin = tensorInput('rope', 'sin', inputs[2]);
    checkDType('rope', 'x', x.dtype, 'f32');
    checkRank('rope', 'x', x.shape, 3);
    checkDType('rope', 'cos', cos.dtype, 'f32');
    checkDType('rope', 'sin', sin.dtype, 'f32');
    checkRank('rope', 'cos', cos.shape, 2);
    checkSize('rope', 'rows of cos', cos.shape[0] as number, x.shape[0] as number);
    if (
      2 * (cos.shape[1] as number) > (x.shape[2] as number) ||
      shapeText(cos.shape) !== shapeText(sin.shape)
    ) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[rope] got cos ${shapeText(cos.shape)} and sin ${shapeText(sin.shape)} for x ${shapeText(x.shape)}, expected at most half the head's size`,
      );
    }
    return [{ dtype: 'f32', shape: x.shape }];
  },
  gradient: ({ inputs, attrs, grads }) => [
    apply1(ropeOp, [grads[0] as Tensor, inputs[1] as Tensor, neg(inputs[2] as Tensor)], attrs),
    null,
    null,
  ],
  twin(inputs, attrs) {
    const [x, cos, sin] = inputs as [Tensor, Tensor, Tensor];
    const [n, h, c] = x.shape as [number, number, number];
    const half = cos.shape[1] as number;
    const [cosine, sine] = [cos, sin].map((t) => reshape(t, [n, 1, half])) as [Tensor, Tensor];
    const turned = slice(x, 2, 0, 2 * half);
    const pairs = attrs.interleaved
      ? reshape(turned, [n, h, half, 2])
      : transpose(reshape(turned, [n, h, 2, half]), [0, 1, 3, 2]);
    const a = reshape(slice(pairs, 3, 0, 1), [n, h, half]);
    const b = reshape(slice(pairs, 3, 1, 2), [n, h, half]);
    const first = sub(mul(a, cosine), mul(b, sine));
    const second = add(mul(b, cosine), mul(a, sine));
    const joined = reshape(stack([first, second], attrs.interleaved ? 3 : 2), [n, h, 2 * half]);
    return [2 * half === c ? joined : concat([joined, slice(x, 2, 2 * half)], 2)];
  },
  lower: (node) => ({ kernel: 'rope', attrs: [{ type: 'int', value: node.attrs.interleaved as number }] }),
});
/**
 * Turns pairs of x [N, H, C] (Su et al. 2021): pairs (i, i + r/2), or neighbours if `interleaved`; the rest of C passes.
 * cos and sin [N, r/2] are constants for the gradient.
 */
export const rope = (x: Tensor, table: { cos: Tensor; sin: Tensor }, { interleaved = false } = {}): Tensor =>
  apply1(ropeOp, [x, table.cos, table.sin], { interleaved: interleaved ? 1 : 0 });

function checkQuery(name: string, input: OpInput | undefined): Tensor {
  const q = tensorInput(name, 'q', input);
  checkDType(name, 'q', q.dtype, 'f32');
  checkRank(name, 'q', q.shape, 3);
  return q;
}
function checkHeads(name: string, heads: number, groups: number): void {
  if (groups === 0 || heads % groups !== 0) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[${name}] got ${heads} query heads for ${groups} key heads, expected a multiple`,
    );
  }
}

export type { AttentionOptions, PositionBias } from './attention-scores.js';

const attentionOp = defineOp({
  name: 'attention',
  attrs: SCORE_ATTRS,
  infer(inputs, attrs) {
    const q = checkQuery('attention', inputs[0]); // [N, H, C]
    const k = tensorInput('attention', 'k', inputs[1]); // [M, G, C]
    const v = tensorInput('attention', 'v', inputs[2]); // [M, G, Cv]
    checkDType('attention', 'k', k.dtype, 'f32');
    checkDType('attention', 'v', v.dtype, 'f32');
    checkRank('attention', 'k', k.shape, 3);
    checkRank('attention', 'v', v.shape, 3);
    checkSize('attention', 'head size of k', k.shape[2] as number, q.shape[2] as number);
    checkSize('attention', 'rows of v', v.shape[0] as number, k.shape[0] as number);
    checkSize('attention', 'heads of v', v.shape[1] as number, k.shape[1] as number);
    checkHeads('attention', q.shape[1] as number, k.shape[1] as number);
    const offsets = checkIndex('attention', 'query offsets', inputs[3], 1);
    const keys = checkIndex('attention', 'key offsets', inputs[4], 1);
    checkSize('attention', 'key offsets of length', keys.shape[0] as number, offsets.shape[0] as number);
    checkScoreInputs('attention', inputs.slice(5), q.shape[1] as number, (offsets.shape[0] as number) - 1);
    checkScoreAttrs('attention', attrs);
    return [{ dtype: 'f32', shape: [q.shape[0] as number, q.shape[1] as number, v.shape[2] as number] }];
  },
  gradient: 'twin',
  cost([q, k], [y]) {
    const [a, b] = [q as Tensor, k as Tensor];
    const out = (y as { shape: Shape }).shape as [number, number, number];
    const scores = out[0] * out[1] * (b.shape[0] as number);
    return {
      flops: 2 * scores * ((a.shape[2] as number) + out[2]),
      bytes: a.bytes + 2 * b.bytes + 4 * out[0] * out[1] * out[2],
    };
  },
  twin(inputs, attrs) {
    const [q, k, v, queryOffsets, keyOffsets] = inputs as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const [prefix, slopes, sinks, bias] = inputs.slice(5) as (Tensor | null)[];
    const [n, h, c] = q.shape as [number, number, number];
    const [m, g] = k.shape as [number, number];
    if (m === 0) return [zeros([n, h, v.shape[2] as number])]; // nothing is seen
    const rows = segments(queryOffsets, n);
    const columns = segments(keyOffsets, m);
    // position of a query: its place in the sequence, counted so that the last query meets the last key
    const shift = sub(columns.lengths, rows.lengths);
    const queryAt = reshape(add(rows.place, takeRows(shift, rows.id)), [n, 1]);
    const keyAt = reshape(columns.place, [1, m]);
    let seen = broadcastTo(greaterEqual(keyAt, 0), [n, m]);
    if (attrs.causal) seen = and(seen, lessEqual(keyAt, queryAt));
    if (attrs.window) seen = and(seen, greater(keyAt, sub(queryAt, attrs.window as number)));
    if (prefix) seen = or(seen, less(keyAt, reshape(takeRows(prefix, rows.id), [n, 1])));
    seen = and(seen, and(equalColumns(rows.id, columns.id), greaterEqual(reshape(rows.id, [n, 1]), 0)));
    const grouped = (t: Tensor, size: number): Tensor =>
      transpose(reshape(t, [size, g, -1, t.shape[2] as number]), [1, 2, 0, 3]);
    const queries = reshape(grouped(q, n), [g, (h / g) * n, c]); // [G, H/G·N, C]
    const keys = transpose(k, [1, 0, 2]); // [G, M, C]
    const products = mul(matmul(queries, keys, { transposeB: true }), attrs.scale as number);
    const scores = changedScores(reshape(products, [h, n, m]), sub(keyAt, queryAt), { slopes, bias }, attrs);
    const masked = where(reshape(seen, [1, n, m]), scores, -Infinity);
    const weights = sinks ? softmaxWithSinks(masked, sinks) : softmax(masked);
    const mixed = matmul(reshape(weights, [g, (h / g) * n, m]), transpose(v, [1, 0, 2]));
    return [
      reshape(transpose(reshape(mixed, [h, n, v.shape[2] as number]), [1, 0, 2]), [
        n,
        h,
        v.shape[2] as number,
      ]),
    ];
  },
  lower: (node) => ({ kernel: 'attention', attrs: lowerScoreAttrs(node.attrs) }),
});

/** For each row: its sequence (-1: none) and place in it; for each sequence: its length. */
function segments(offsets: Tensor, rows: number): { id: Tensor; place: Tensor; lengths: Tensor } {
  const s = (offsets.shape[0] as number) - 1;
  const starts = slice(offsets, 0, 0, s);
  const ends = slice(offsets, 0, 1);
  const row = iota([rows, 1]);
  const inside = and(greaterEqual(row, reshape(starts, [1, s])), less(row, reshape(ends, [1, s])));
  const id = sub(sum(cast(mul(cast(inside, 'i32'), add(iota([1, s], 1), 1)), 'i32'), 1), 1);
  return { id, place: sub(reshape(row, [rows]), takeRows(starts, id)), lengths: sub(ends, starts) };
}
const equalColumns = (rows: Tensor, columns: Tensor): Tensor => {
  const a = reshape(rows, [rows.size, 1]);
  const b = reshape(columns, [1, columns.size]);
  return and(lessEqual(a, b), lessEqual(b, a));
};

/**
 * Softmax attention (Vaswani et al. 2017, eq. 1) within each sequence of a ragged batch, scores in f32.
 * q [N, H, C], k [M, G, C], v [M, G, Cv], offsets i32 [S+1] → [N, H, Cv]; G divides H (grouped queries).
 * The last query of a sequence stands at the position of its last key. A query that sees no key gives zeros.
 */
export function attention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  queryOffsets: Tensor,
  keyOffsets: Tensor,
  options: AttentionOptions = {},
): Tensor {
  checkQuery('attention', q);
  return apply1(
    attentionOp,
    [q, k, v, queryOffsets, keyOffsets, ...scoreInputs(options)],
    scoreAttrs(q.shape[2] as number, options),
  );
}

/** dtypes of a paged cache. u8: codes of 8 bits, and in the last 4 bytes of each row's share an f32 scale. */
const KV_DTYPES = ['f32', 'f16', 'bf16', 'u8'] as const;
/** Bytes of scale beside the codes of one key or value. */
const KV_SCALE_BYTES = 4;
/** Elements that a cache stores of `channels` numbers. */
export const storedChannels = (dtype: DType, channels: number): number =>
  dtype === 'u8' ? channels + KV_SCALE_BYTES : channels;
/** Attention reads keys in vectors of 16. */
const KV_VECTOR = 16;

const pagedAttentionOp = defineOp({
  name: 'paged_attention',
  // values: channels of a value where it is the beginning of its key; 0: the v cache tells
  attrs: { ...SCORE_ATTRS, values: 'int' },
  infer(inputs, attrs) {
    const q = checkQuery('paged_attention', inputs[0]);
    const k = tensorInput('paged_attention', 'k cache', inputs[1]); // [blocks, G, C, block]
    checkDType('paged_attention', 'k cache', k.dtype, ...KV_DTYPES);
    checkRank('paged_attention', 'k cache', k.shape, 4);
    const [, g, stored, block] = k.shape as [number, number, number, number];
    const cv = valueChannels(k, inputs[2], attrs.values, q.shape[2] as number);
    checkSize(
      'paged_attention',
      'channels of the k cache',
      stored,
      storedChannels(k.dtype, q.shape[2] as number),
    );
    if (block < 1 || block % KV_VECTOR !== 0 || cv < 0) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[paged_attention] got a cache ${shapeText(k.shape)} of ${k.dtype} for values of ${cv} channels, expected blocks of a multiple of ${KV_VECTOR} keys, and room for scales beside codes`,
      );
    }
    checkHeads('paged_attention', q.shape[1] as number, g);
    const offsets = checkIndex('paged_attention', 'query offsets', inputs[3], 1);
    const s = (offsets.shape[0] as number) - 1;
    checkSize(
      'paged_attention',
      'kv lengths of length',
      checkIndex('paged_attention', 'kv lengths', inputs[4], 1).shape[0] as number,
      s,
    );
    checkSize(
      'paged_attention',
      'rows of the block table',
      checkIndex('paged_attention', 'block table', inputs[5], 2).shape[0] as number,
      s,
    );
    checkScoreInputs('paged_attention', inputs.slice(6), q.shape[1] as number, s);
    checkScoreAttrs('paged_attention', attrs);
    return [{ dtype: 'f32', shape: [q.shape[0] as number, q.shape[1] as number, cv] }];
  },
  gradient: 'nondifferentiable',
  lower: ({ attrs }) => ({
    kernel: 'paged_attention',
    attrs: [...lowerScoreAttrs(attrs), { type: 'int', value: attrs.values as number }],
  }),
});

function valueChannels(k: Tensor, cache: OpInput | undefined, values: Attr | undefined, c: number): number {
  if (!cache) return checkInt('paged_attention', 'channels of values in keys', values, 1, c);
  checkInt('paged_attention', 'channels of values in keys beside a v cache', values, 0, 0);
  const v = tensorInput('paged_attention', 'v cache', cache); // [blocks, G, block, Cv]
  checkDType('paged_attention', 'v cache', v.dtype, k.dtype);
  checkRank('paged_attention', 'v cache', v.shape, 4);
  const [blocks, g, , block] = k.shape;
  for (const [i, size] of [blocks, g, block].entries())
    checkSize('paged_attention', 'v cache size', v.shape[i] as number, size as number);
  return (v.shape[3] as number) - storedChannels(k.dtype, 0);
}

export interface PagedKeys {
  /** [blocks, G, C, block]: channel after channel. f32, f16, bf16; or u8 [blocks, G, C + 4, block]. */
  k: Tensor;
  /**
   * [blocks, G, block, Cv], or u8 [blocks, G, block, Cv + 4]. A number: a value is the first so many channels of its key
   * (DeepSeek-V2, arXiv 2405.04434, section 2.1: keys and values from one latent).
   */
  v: Tensor | number;
  /** i32 [S]: keys of each sequence, the new ones counted. */
  lengths: Tensor;
  /** i32 [S, most]: the blocks of each sequence, in order. */
  blockTable: Tensor;
}
/**
 * `attention` whose keys and values lie in blocks of a cache (Kwon et al. 2023): what `attention` gives for the same
 * rows among all keys, to the bit if the cache is f32. A query sees keys that are in the cache only. So queries that see
 * later keys (below `prefix`, or with `causal: false`) must come in one step with all of those: a prefix in one step, and
 * what follows it in steps of any size, with the same `prefix` each time.
 */
export function pagedAttention(
  q: Tensor,
  keys: PagedKeys,
  queryOffsets: Tensor,
  options: AttentionOptions = {},
): Tensor {
  checkQuery('paged_attention', q);
  const [v, values] = typeof keys.v === 'number' ? [null, keys.v] : [keys.v, 0];
  return apply1(
    pagedAttentionOp,
    [q, keys.k, v, queryOffsets, keys.lengths, keys.blockTable, ...scoreInputs(options)],
    { ...scoreAttrs(q.shape[2] as number, options), values },
  );
}

const kvWriteOp = defineOp({
  name: 'kv_write',
  attrs: { transpose: 'int' },
  infer(inputs, attrs) {
    const cache = tensorInput('kv_write', 'cache', inputs[0]);
    const x = tensorInput('kv_write', 'x', inputs[1]); // [N, G, C]
    const slots = checkIndex('kv_write', 'slots', inputs[2], 1);
    checkDType('kv_write', 'cache', cache.dtype, ...KV_DTYPES);
    checkRank('kv_write', 'cache', cache.shape, 4);
    checkDType('kv_write', 'x', x.dtype, 'f32');
    checkRank('kv_write', 'x', x.shape, 3);
    checkSize('kv_write', 'heads of x', x.shape[1] as number, cache.shape[1] as number);
    checkSize(
      'kv_write',
      'channels of the cache',
      cache.shape[attrs.transpose ? 2 : 3] as number,
      storedChannels(cache.dtype, x.shape[2] as number),
    );
    checkSize('kv_write', 'slots of length', slots.shape[0] as number, x.shape[0] as number);
    return [{ dtype: cache.dtype, shape: cache.shape }];
  },
  gradient: 'nondifferentiable',
  mutates: true,
  lower: (node) => ({ kernel: 'kv_write', attrs: [{ type: 'int', value: node.attrs.transpose as number }] }),
});
/**
 * Writes x [N, G, C] into a cache in place at `slots` (block · size + place; -1 skips) and returns the cache after the
 * write. The cache holds rows, [blocks, G, block, C] as `PagedKeys.v`, or with `transpose` channels as `PagedKeys.k`.
 */
export const kvWrite = (cache: Tensor, x: Tensor, slots: Tensor, { transpose = false } = {}): Tensor =>
  apply1(kvWriteOp, [cache, x, slots], { transpose: transpose ? 1 : 0 });
