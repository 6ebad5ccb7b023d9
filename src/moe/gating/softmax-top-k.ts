import { routeTopK } from '../../core/ops/routing.js';
import type { Gating } from './gating.js';

export interface SoftmaxTopKOptions {
  /** Divide the chosen probabilities by their sum (Mixtral; Qwen's norm_topk_prob). Default true. */
  renormalize?: boolean;
  /** Constant factor on the weights. Default 1. */
  scale?: number;
}

/** p = softmax(logits) over all experts; the k largest p are the weights (Jiang et al. 2024, section 2.1). */
export const softmaxTopK = ({ renormalize = true, scale = 1 }: SoftmaxTopKOptions = {}): Gating => ({
  name: 'softmax-top-k',
  choose: (logits, { topK, selectionBias }) =>
    routeTopK(logits, { k: topK, score: 'softmax', renormalize, scale, bias: selectionBias }),
});
