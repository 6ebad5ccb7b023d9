/** The gating policies by name. */
import { unknownOption } from '../../core/errors.js';
import type { Gating } from './gating.js';
import { softmaxTopK } from './softmax-top-k.js';
import { topKSoftmax } from './top-k-softmax.js';

const POLICIES = { 'softmax-top-k': softmaxTopK, 'top-k-softmax': topKSoftmax } as const;
export type GatingName = keyof typeof POLICIES;
export const gatingNames = Object.keys(POLICIES) as GatingName[];

/** A policy by name with its defaults, or the policy itself. */
export function resolveGating(gating: GatingName | Gating): Gating {
  if (typeof gating !== 'string') return gating;
  const make = POLICIES[gating];
  if (!make) throw unknownOption('gating', gating, gatingNames);
  return make();
}

export type { Choice, Gating, GatingContext } from './gating.js';
export { softmaxTopK, topKSoftmax };
