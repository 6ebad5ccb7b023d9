/** How the tokens [N] of several texts lie, and who sees whom among them. */
import { attention } from '../../core/ops/attention.js';
import { full, greater, mul } from '../../core/ops/elementwise.js';
import { broadcastTo, concat, reshape } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import type { Attend, AttendOptions } from '../../nn/attention.js';
import type { AttendMemory } from '../../nn/cross-attention.js';

export interface Layout {
  /** i32 [S+1]: where each text begins. */
  readonly offsets: Tensor;
  /**
   * f32 [N]: 0 where a token is real, `HIDDEN` at padding, which is computed like a token and seen by none. Null: all are
   * real.
   */
  readonly hidden: Tensor | null;
  /** Texts of equal length; null where lengths differ. */
  readonly sequences: number | null;
}

/** Added to the scores of a key, it leaves exp(score) = 0 exactly. */
export const HIDDEN = -1e30;

/** bool [N]; null: all. */
export const realOf = ({ hidden }: Layout): Tensor | null => hidden && greater(hidden, HIDDEN / 2);

interface Side {
  readonly layout: Layout;
  readonly k: Tensor;
  readonly v: Tensor;
}

/**
 * Attention of one layout's tokens over another's. Where keys are hidden, each key gets one channel more that meets a 1 in
 * each query: the scores of hidden keys lose to all others, and nothing else changes by a bit.
 */
function attendOver(q: Tensor, from: Layout, to: Side, causal: boolean, options: AttendOptions): Tensor {
  const { layout, k, v } = to;
  const [n, h, c] = q.shape as [number, number, number];
  const scale = options.scale ?? 1 / Math.sqrt(c);
  const scores = { ...options, scale, causal };
  if (!layout.hidden) return attention(q, k, v, from.offsets, layout.offsets, scores);
  const [m, g] = k.shape as [number, number];
  const channel = broadcastTo(reshape(mul(layout.hidden, 1 / scale), [m, 1, 1]), [m, g, 1]);
  const queries = concat([q, full([n, h, 1], 1)], 2);
  return attention(queries, concat([k, channel], 2), v, from.offsets, layout.offsets, scores);
}

/** Every token sees all real tokens of its text. */
export const bothWays =
  (layout: Layout): Attend =>
  (q, k, v, options) =>
    attendOver(q, layout, { layout, k, v }, false, options);

/** A token sees itself and the real tokens before it. */
export const backwards =
  (layout: Layout): Attend =>
  (q, k, v, options) =>
    attendOver(q, layout, { layout, k, v }, true, options);

/** Every token sees all real tokens of its text's memory. */
export const toMemory =
  (from: Layout, memory: Layout, { k, v }: { k: Tensor; v: Tensor }): AttendMemory =>
  (q, options) =>
    attendOver(q, from, { layout: memory, k, v }, false, options);
