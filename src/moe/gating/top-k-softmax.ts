import { routeTopK } from '../../core/ops/routing.js';
import type { Gating } from './gating.js';

/** The k largest logits are kept, the weights are a softmax over those k (Shazeer et al. 2017, eq. 3 and 5, without noise). */
export const topKSoftmax = (): Gating => ({
  name: 'top-k-softmax',
  choose: (logits, { topK, selectionBias }) =>
    routeTopK(logits, { k: topK, score: 'softmax-of-chosen', bias: selectionBias }),
});
