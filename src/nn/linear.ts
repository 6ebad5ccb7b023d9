import type { ComputeMode } from '../core/format.js';
import { add } from '../core/ops/elementwise.js';
import { takeRows } from '../core/ops/indexing.js';
import { matmul } from '../core/ops/linalg.js';
import { embedding, linear } from '../core/ops/linear.js';
import type { Tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';

/** A matrix of a layer: packed for inference, or an ordinary tensor that gradients reach. */
export type Matrix = Weight | Tensor;

/** y = x Wᵀ + b. */
export class Linear {
  constructor(
    /** [N, K] */
    readonly weight: Matrix,
    /** [N] */
    readonly bias: Tensor | null = null,
  ) {}

  /** x […, K] → […, N]. `compute` applies to packed weights. */
  forward(x: Tensor, compute: ComputeMode = 'f32'): Tensor {
    const y =
      this.weight instanceof Weight
        ? linear(x, this.weight, compute)
        : matmul(x, this.weight, { transposeB: true });
    return this.bias ? add(y, this.bias) : y;
  }
}

/** Rows of a table [V, D] by token id. */
export class Embedding {
  constructor(readonly weight: Matrix) {}

  /** ids i32 [N] → [N, D] */
  forward(ids: Tensor): Tensor {
    return this.weight instanceof Weight ? embedding(ids, this.weight) : takeRows(this.weight, ids);
  }
}
