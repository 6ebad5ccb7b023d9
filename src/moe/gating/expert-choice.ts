import { SwitchyardError } from '../../core/errors.js';
import { full, greater, ones, where } from '../../core/ops/elementwise.js';
import { scatterAddAlong, topK } from '../../core/ops/indexing.js';
import { checkedLogits } from '../../core/ops/logits.js';
import { softmax } from '../../core/ops/norm.js';
import { iota, reshape, transpose } from '../../core/ops/shape.js';
import { expertCapacity } from '../capacity.js';
import type { Gating } from './gating.js';
import { checkRange, withDefaults } from './shared/options.js';

export interface ExpertChoiceOptions {
  /** Experts per token on average: an expert takes ceil(tokens · factor / E) tokens. Default 2. */
  factor: number;
  /** The tokens that compete: of the whole batch, as in the paper, or of each sequence. Default 'batch'. */
  group: 'batch' | 'sequence';
}

/**
 * Experts choose tokens (Zhou et al. 2022, eq. 1-3): S = softmax over experts; expert e takes the `capacity` tokens with the
 * largest S[:, e], weight S[t, e]. A token may get none, or all. Looks at later tokens: not for causal decoding.
 */
export function expertChoice(options?: Partial<ExpertChoiceOptions>): Gating {
  const { factor, group } = withDefaults<ExpertChoiceOptions>('expert-choice', options, {
    factor: 2,
    group: 'batch',
  });
  checkRange('expert-choice', { factor }, 0);
  if (group !== 'batch' && group !== 'sequence')
    throw new SwitchyardError('ERR_OPTION', `[expert-choice] got group '${group}', expected batch, sequence`);
  return {
    name: 'expert-choice',
    options: { factor, group },
    looksAhead: true,
    topK: (nExperts) => nExperts,
    route(logits, { sequences, nExperts }) {
      const probabilities = softmax(checkedLogits(logits)); // [N, E]
      const n = logits.shape[0] as number;
      const groups = group === 'batch' ? 1 : sequences;
      const tokens = groups === 0 ? 0 : n / groups;
      const wanted = expertCapacity({ tokens, nExperts, factor });
      const capacity = Math.min(wanted, tokens);
      const none = full([n, nExperts], -1, 'i32');
      if (capacity === 0)
        return { kind: 'sparse', expertIds: none, combineWeights: probabilities, probabilities };
      const byExpert = transpose(reshape(probabilities, [groups, tokens, nExperts]), [0, 2, 1]); // [G, E, n]
      const { indices } = topK(byExpert, capacity); // [G, E, C]
      const taken = scatterAddAlong(ones(indices.shape), indices, tokens); // [G, E, n]
      const chosen = reshape(transpose(taken, [0, 2, 1]), [n, nExperts]);
      return {
        kind: 'sparse',
        expertIds: where(greater(chosen, 0), iota([n, nExperts], 1), none),
        combineWeights: probabilities,
        probabilities,
        rows: groups * nExperts * capacity,
      };
    },
  };
}
