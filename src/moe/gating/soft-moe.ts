import { checkWhole } from '../../core/errors.js';
import { checkedLogits } from '../../core/ops/logits.js';
import { softmax } from '../../core/ops/norm.js';
import { reshape, transpose } from '../../core/ops/shape.js';
import type { Gating } from './gating.js';
import { withDefaults } from './shared/options.js';

export interface SoftMoeOptions {
  /** Slots per expert, S. Default 1. */
  slots: number;
}

/**
 * Soft MoE (Puigcerver et al. 2023, eq. 1-3): each slot's input is a weighted mean of the tokens of a sequence (softmax over
 * tokens), each token's output a weighted mean of all slots (softmax over slots). The router's E·S rows are the columns of Φ.
 */
export function softMoe(options?: Partial<SoftMoeOptions>): Gating {
  const { slots } = withDefaults('soft-moe', options, { slots: 1 });
  checkWhole('soft-moe', 'slots', slots, 1);
  return {
    name: 'soft-moe',
    options: { slots },
    looksAhead: true,
    outputsPerExpert: slots,
    topK: (nExperts) => nExperts,
    route(logits, { sequences, nExperts }) {
      const all = nExperts * slots;
      const tokens = sequences === 0 ? 0 : (logits.shape[0] as number) / sequences;
      const grouped = reshape(checkedLogits(logits), [sequences, tokens, all]);
      const overTokens = softmax(transpose(grouped, [0, 2, 1])); // [B, E·S, T]
      return { kind: 'soft', dispatch: transpose(overTokens, [0, 2, 1]), combine: softmax(grouped) };
    },
  };
}
