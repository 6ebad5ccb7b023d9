import type { ComputeMode } from '../core/format.js';
import { reshape } from '../core/ops/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { AttendOptions } from './attention.js';
import type { Linear } from './linear.js';

export interface CrossAttentionConfig {
  readonly nHeads: number;
  readonly headDim: number;
  /** What the scores get. */
  readonly attend?: AttendOptions;
}

/** Mixes a memory's values by the scores of queries [N, H, C] → [N, H, C]; the caller knows where the memory lies. */
export type AttendMemory = (q: Tensor, options: AttendOptions) => Tensor;

/** Attention of a decoder's tokens over what an encoder gave (Vaswani et al. 2017, section 3.2.3). */
export class CrossAttention {
  constructor(
    readonly config: CrossAttentionConfig,
    readonly q: Linear,
    readonly k: Linear,
    readonly v: Linear,
    readonly o: Linear,
  ) {}

  /** Keys and values of states [M, D], [M, H, C] each: computed once for all tokens of the decoder. */
  memory(states: Tensor, compute: ComputeMode): { k: Tensor; v: Tensor } {
    const { nHeads, headDim } = this.config;
    const heads = (layer: Linear): Tensor =>
      reshape(layer.forward(states, compute), [states.shape[0] as number, nHeads, headDim]);
    return { k: heads(this.k), v: heads(this.v) };
  }

  /** x [N, D] → [N, D] */
  forward(x: Tensor, attend: AttendMemory, compute: ComputeMode): Tensor {
    const { nHeads, headDim } = this.config;
    const n = x.shape[0] as number;
    const q = reshape(this.q.forward(x, compute), [n, nHeads, headDim]);
    const mixed = attend(q, this.config.attend ?? {});
    return this.o.forward(reshape(mixed, [n, nHeads * headDim]), compute);
  }
}
