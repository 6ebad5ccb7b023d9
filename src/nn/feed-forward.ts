import type { ComputeMode } from '../core/format.js';
import { ACTIVATIONS, type Activation, mul } from '../core/ops/elementwise.js';
import type { Tensor } from '../core/tensor.js';
import type { Linear } from './linear.js';

/** down(act(gate(x)) · up(x)), or down(act(up(x))) without a gate (Shazeer 2020, eq. 5-6). */
export class FeedForward {
  constructor(
    readonly gate: Linear | null,
    readonly up: Linear,
    readonly down: Linear,
    readonly activation: Activation = 'silu',
  ) {}

  /** x […, D] → […, D] */
  forward(x: Tensor, compute: ComputeMode = 'f32'): Tensor {
    const act = ACTIVATIONS[this.activation];
    const up = this.up.forward(x, compute);
    const hidden = this.gate ? mul(act(this.gate.forward(x, compute)), up) : act(up);
    return this.down.forward(hidden, compute);
  }
}
