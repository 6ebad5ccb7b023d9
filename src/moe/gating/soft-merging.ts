import { checkedLogits } from '../../core/ops/logits.js';
import { softmax } from '../../core/ops/norm.js';
import { mean } from '../../core/ops/reduce.js';
import { reshape } from '../../core/ops/shape.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';

/**
 * Soft merging of experts with adaptive routing, SMEAR (Muqeeth et al. 2023, section 3): the experts' parameters are averaged
 * with the router probabilities of a sequence, meaned over its tokens, and the one merged expert sees all its tokens.
 */
export function softMerging(options?: Record<string, never>): Gating {
  withDefaults('soft-merging', options, {});
  return {
    name: 'soft-merging',
    options: {},
    looksAhead: true,
    topK: (nExperts) => nExperts,
    route(logits, { sequences, nExperts }) {
      const tokens = sequences === 0 ? 0 : (logits.shape[0] as number) / sequences;
      const p = reshape(softmax(checkedLogits(logits)), [sequences, tokens, nExperts]);
      return { kind: 'merged', shares: mean(p, 1) };
    },
  };
}
