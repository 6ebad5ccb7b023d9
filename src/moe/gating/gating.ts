import type { Tensor } from '../../core/tensor.js';

/** What a policy may look at besides the logits. */
export interface GatingContext {
  readonly topK: number;
  /** [E], added to the scores for the choice only; null where the layer has none. */
  readonly selectionBias: Tensor | null;
}

/** A choice of experts: ids i32 [N, K] (-1: none) and the weights [N, K] of their outputs. */
export interface Choice {
  readonly expertIds: Tensor;
  readonly combineWeights: Tensor;
}

/**
 * A gating policy turns router logits [N, E] into a choice of experts. It holds its own options, no state.
 * A new policy is one file beside this one and a line in index.ts.
 */
export interface Gating {
  readonly name: string;
  choose(logits: Tensor, context: GatingContext): Choice;
}
