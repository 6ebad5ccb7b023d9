import type { ComputeMode } from '../core/format.js';
import { type AttentionOptions, rope } from '../core/ops/attention.js';
import { clamp } from '../core/ops/elementwise.js';
import { reshape } from '../core/ops/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { Linear } from './linear.js';
import type { Norm } from './norm.js';

/** cos and sin of a step's positions, [N, r/2] each. */
export interface RopeTable {
  readonly cos: Tensor;
  readonly sin: Tensor;
}

/** What a layer asks of the mixing; what the caller knows (offsets, prefix, cache) comes on top. */
export type AttendOptions = Omit<AttentionOptions, 'causal' | 'prefix'>;

/** Mixes values by scores; the decoder decides whether keys come from the batch itself or from a paged cache. */
export type Attend = (q: Tensor, k: Tensor, v: Tensor, options: AttendOptions) => Tensor;

export interface AttentionConfig {
  readonly nHeads: number;
  readonly nKvHeads: number;
  readonly headDim: number;
  /** Rotary pairs are neighbours. */
  readonly ropeInterleaved: boolean;
  /** What qNorm and kNorm take as one vector: each head (Qwen 3), or all heads of a token (OLMoE). Default 'head'. */
  readonly normAcross?: 'head' | 'heads';
  /** Bound on the absolute values of queries, keys and values, after a norm across heads (OLMoE's clip_qkv). */
  readonly clip?: number | null;
  /** Scale, window and what else the scores get. */
  readonly attend?: AttendOptions;
}

/** Self-attention with grouped keys and rotary positions on ragged tokens (Ainslie et al. 2023). */
export class Attention {
  constructor(
    readonly config: AttentionConfig,
    readonly q: Linear,
    readonly k: Linear,
    readonly v: Linear,
    readonly o: Linear,
    /** Norms of queries and keys, where a family has them. */
    readonly qNorm: Norm | null = null,
    readonly kNorm: Norm | null = null,
  ) {}

  /** x [N, D] → [N, D]. Without a table nothing turns. */
  forward(x: Tensor, table: RopeTable | null, attend: Attend, compute: ComputeMode): Tensor {
    const { nHeads, nKvHeads, headDim, ropeInterleaved, normAcross = 'head', clip = null } = this.config;
    const n = x.shape[0] as number;
    const heads = (layer: Linear, count: number, norm: Norm | null): Tensor => {
      let y = layer.forward(x, compute); // [N, count · C]
      if (norm && normAcross === 'heads') y = norm.forward(y);
      if (clip !== null) y = clamp(y, -clip, clip);
      y = reshape(y, [n, count, headDim]);
      return norm && normAcross === 'head' ? norm.forward(y) : y;
    };
    const turn = (y: Tensor): Tensor => (table ? rope(y, table, { interleaved: ropeInterleaved }) : y);
    const q = turn(heads(this.q, nHeads, this.qNorm)); // [N, H, C]
    const k = turn(heads(this.k, nKvHeads, this.kNorm)); // [N, G, C]
    const v = heads(this.v, nKvHeads, null);
    const mixed = attend(q, k, v, this.config.attend ?? {}); // [N, H, C]
    return this.o.forward(reshape(mixed, [n, nHeads * headDim]), compute);
  }
}
