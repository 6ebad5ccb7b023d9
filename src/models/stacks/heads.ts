/** What stands on the last states of an encoder: masked words, classes of a text or of its tokens, a pooled vector. */
import type { ComputeMode } from '../../core/format.js';
import { ACTIVATIONS, type Activation, sigmoid, tanh } from '../../core/ops/elementwise.js';
import { takeRows } from '../../core/ops/indexing.js';
import { softmax } from '../../core/ops/norm.js';
import type { Tensor } from '../../core/tensor.js';
import type { Linear } from '../../nn/linear.js';
import type { Norm } from '../../nn/norm.js';

/** A dense layer with an activation and a norm, then a row of the embedding for each word (Devlin et al. 2019, section 3.1). */
export class MaskedWordHead {
  readonly kind = 'masked-lm';

  constructor(
    readonly transform: Linear,
    readonly activation: Activation,
    readonly norm: Norm,
    readonly words: Linear,
  ) {}

  /** states [N, D] → [N, V] */
  forward(states: Tensor, compute: ComputeMode): Tensor {
    const act = ACTIVATIONS[this.activation];
    return this.words.forward(this.norm.forward(act(this.transform.forward(states, compute))), compute);
  }
}

/** Scores of classes: of a text, from its pooled vector, or of each token. */
export class ClassifierHead {
  constructor(
    readonly kind: 'sequence-classification' | 'token-classification',
    readonly classes: Linear,
  ) {}

  /** x [M, D] → [M, C] */
  forward(x: Tensor, compute: ComputeMode): Tensor {
    return this.classes.forward(x, compute);
  }
}

/** tanh of a dense layer over the first token (Devlin et al. 2019, section 3.2). */
export class Pooler {
  constructor(readonly dense: Linear) {}

  /** states [N, D], first rows i32 [S] → [S, D] */
  forward(states: Tensor, first: Tensor, compute: ComputeMode): Tensor {
    return tanh(this.dense.forward(takeRows(states, first), compute));
  }
}

/** Scores [M, C] as probabilities of classes: one of them holds, or each by itself. */
export const probabilitiesOf = (scores: Tensor, rule: 'softmax' | 'sigmoid'): Tensor =>
  rule === 'softmax' ? softmax(scores) : sigmoid(scores);
