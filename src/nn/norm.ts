import { layerNorm, rmsNorm } from '../core/ops/norm.js';
import type { Tensor } from '../core/tensor.js';

/** x / √(mean(x²) + eps) · (weight + weightOffset) (Zhang & Sennrich 2019, eq. 4). */
export class RmsNorm {
  constructor(
    /** [D] */
    readonly weight: Tensor | null,
    readonly eps = 1e-6,
    readonly weightOffset = 0,
  ) {}

  forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, { eps: this.eps, weightOffset: this.weightOffset });
  }
}

/** (x - mean) / √(var + eps) · weight + bias (Ba et al. 2016). */
export class LayerNorm {
  constructor(
    readonly weight: Tensor | null,
    readonly bias: Tensor | null,
    readonly eps = 1e-5,
  ) {}

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, { eps: this.eps });
  }
}

export type Norm = RmsNorm | LayerNorm;
