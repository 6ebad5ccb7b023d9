/** The gating policies by name. */
import { SwitchyardError, unknownOption } from '../../core/errors.js';
import { adaptiveMixture } from './adaptive-mixture.js';
import { base } from './base.js';
import { dense } from './dense.js';
import { expertChoice } from './expert-choice.js';
import type { Gating } from './gating.js';
import { groupLimitedGreedy } from './group-limited-greedy.js';
import { hash } from './hash.js';
import { noisyTopK } from './noisy-top-k.js';
import { random } from './random.js';
import { sigmoidTopK } from './sigmoid-top-k.js';
import { sinkhorn } from './sinkhorn.js';
import { softMerging } from './soft-merging.js';
import { softMoe } from './soft-moe.js';
import { softmaxTopK } from './softmax-top-k.js';
import { sparseMixer } from './sparse-mixer.js';
import { stMoeTop2 } from './st-moe-top-2.js';
import { switchTop1 } from './switch-top-1.js';
import { topKSoftmax } from './top-k-softmax.js';

const POLICIES = {
  'softmax-top-k': softmaxTopK,
  'top-k-softmax': topKSoftmax,
  'noisy-top-k': noisyTopK,
  'switch-top-1': switchTop1,
  'st-moe-top-2': stMoeTop2,
  'sigmoid-top-k': sigmoidTopK,
  'group-limited-greedy': groupLimitedGreedy,
  'sparse-mixer': sparseMixer,
  'expert-choice': expertChoice,
  dense,
  'soft-moe': softMoe,
  'soft-merging': softMerging,
  sinkhorn,
  base,
  hash,
  random,
  'adaptive-mixture': adaptiveMixture,
} as const;
export type GatingName = keyof typeof POLICIES;
export const gatingNames = Object.keys(POLICIES) as GatingName[];

/** A policy by name with its defaults, or the policy itself. */
export function resolveGating(gating: GatingName | Gating): Gating {
  if (typeof gating !== 'string') return gating;
  if (!Object.hasOwn(POLICIES, gating)) throw unknownOption('gating', gating, gatingNames);
  return POLICIES[gating]();
}

/** A policy as plain data. */
export interface GatingForm {
  readonly name: GatingName;
  readonly options: Readonly<Record<string, unknown>>;
}

/** What `gatingFrom` makes the policy of again; ERR_UNSUPPORTED for one that is not of this table. */
export function gatingForm(gating: GatingName | Gating): GatingForm {
  const { name, options } = resolveGating(gating);
  if (options && Object.hasOwn(POLICIES, name)) return { name: name as GatingName, options };
  throw new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[gating] got policy '${name}' to write down, expected one of ${gatingNames.join(', ')}`,
  );
}

/** The policy of a name and options that come from a file: both are checked. */
export function gatingFrom(name: string, options: Readonly<Record<string, unknown>>): Gating {
  if (!Object.hasOwn(POLICIES, name)) throw unknownOption('gating', name, gatingNames);
  const make = POLICIES[name as GatingName] as (options: Readonly<Record<string, unknown>>) => Gating;
  return make(options);
}

export {
  type AdaptiveMixture,
  adaptiveMixtureLoss,
} from './adaptive-mixture.js';
export {
  type Gating,
  type GatingContext,
  type MergedRouting,
  type NoiseSource,
  type Routing,
  type SoftRouting,
  type SparseRouting,
  seededNoise,
} from './gating.js';
export {
  adaptiveMixture,
  base,
  dense,
  expertChoice,
  groupLimitedGreedy,
  hash,
  noisyTopK,
  random,
  sigmoidTopK,
  sinkhorn,
  softMerging,
  softMoe,
  softmaxTopK,
  sparseMixer,
  stMoeTop2,
  switchTop1,
  topKSoftmax,
};
