/** Capacity: how many tokens an expert takes, in which order they are served, and what becomes of the rest. */
import { checkOptions, checkWhole, SwitchyardError } from '../core/errors.js';
import { assignCapacity } from '../core/ops/assignment.js';
import { div, greaterEqual, maximum, mul, neg, where } from '../core/ops/elementwise.js';
import { sort } from '../core/ops/indexing.js';
import { max, sum } from '../core/ops/reduce.js';
import { reshape } from '../core/ops/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { SparseRouting } from './gating/gating.js';

export type CapacityRounding = 'ceil' | 'floor';

export interface CapacityOptions {
  /** Slots of an expert = k · tokens of the group · factor / E, rounded. Either this, `slots` or `tokenShare`. */
  factor?: number;
  /** Slots of an expert in each token group, as a number. */
  slots?: number;
  /** Slots of an expert = tokens of the group · tokenShare, rounded ("No Language Left Behind" 2022, section 6.2). */
  tokenShare?: number;
  /** Default 'ceil' (GShard; Switch's published code rounds down). */
  rounding?: CapacityRounding;
  /** Least slots that `factor` or `tokenShare` gives. Default 0. */
  minimum?: number;
  /**
   * Tokens that share the slots: those of a sequence (default: a sequence then gives the same results alone and in a
   * batch), of the whole batch, or runs of so many tokens.
   */
  group?: 'sequence' | 'batch' | number;
  /** A token whose expert is full loses it ('drop', default: the residual carries it), or goes to its best expert with room. */
  overflow?: 'drop' | 'next-best';
  /** Who is served first: earlier tokens (default), or those with the largest router probability (Riquelme et al. 2021, section 4). */
  priority?: 'order' | 'probability';
  /** With 'drop': the weights of the choices that a token keeps grow to the sum that all its choices had. Default false. */
  renormalize?: boolean;
}

/** round(k · tokens · factor / nExperts), at least `minimum`: the slots of one expert (Lepikhin et al. 2020, section 2.2). */
export function expertCapacity({
  tokens,
  nExperts,
  factor,
  topK = 1,
  rounding = 'ceil',
  minimum = 0,
}: {
  tokens: number;
  nExperts: number;
  factor: number;
  topK?: number;
  rounding?: CapacityRounding;
  minimum?: number;
}): number {
  const exact = (topK * tokens * factor) / nExperts;
  return Math.max(minimum, rounding === 'ceil' ? Math.ceil(exact) : Math.floor(exact));
}

const SIZES = ['factor', 'slots', 'tokenShare'] as const;
const NAMES = [...SIZES, 'rounding', 'minimum', 'group', 'overflow', 'priority', 'renormalize'];

/** Refuses options that make no sense; returns them unchanged. */
export function checkCapacity(options: CapacityOptions): CapacityOptions {
  checkOptions('capacity', options, NAMES);
  const { factor, slots, tokenShare, rounding = 'ceil', minimum = 0, group = 'sequence' } = options;
  const refuse = (got: string, expected: string): never => {
    throw new SwitchyardError('ERR_OPTION', `[capacity] got ${got}, expected ${expected}`);
  };
  const given = SIZES.filter((name) => options[name] !== undefined);
  if (given.length !== 1) refuse(given.join(' and ') || 'no size', `one of ${SIZES.join(', ')}`);
  for (const [name, value] of Object.entries({ factor, tokenShare }))
    if (value !== undefined && !(Number.isFinite(value) && value > 0))
      refuse(`${name} ${value}`, 'a number above 0');
  if (slots !== undefined) checkWhole('capacity', 'slots', slots, 0);
  checkWhole('capacity', 'minimum', minimum, 0);
  if (
    typeof group === 'number'
      ? !(Number.isInteger(group) && group > 0)
      : !['sequence', 'batch'].includes(group)
  )
    refuse(`group '${group}'`, "'sequence', 'batch' or a number of tokens");
  const among = (name: string, value: string | undefined, allowed: readonly string[]): void => {
    if (value !== undefined && !allowed.includes(value)) refuse(`${name} '${value}'`, allowed.join(', '));
  };
  among('rounding', rounding, ['ceil', 'floor']);
  among('overflow', options.overflow, ['drop', 'next-best']);
  among('priority', options.priority, ['order', 'probability']);
  if (options.renormalize && options.overflow === 'next-best')
    refuse("renormalize with overflow 'next-best'", "'drop': the next best choice is weighed anew");
  return options;
}

/** The routing after every expert has taken what it has room for; `rows` becomes what can be kept at most. */
export function applyCapacity(
  routing: SparseRouting,
  options: CapacityOptions,
  { nExperts, sequences, policy }: { nExperts: number; sequences: number; policy: string },
): SparseRouting {
  const [n, k] = routing.expertIds.shape as [number, number];
  const { overflow = 'drop', priority = 'order' } = options;
  const group = groupSize(options.group ?? 'sequence', n, sequences);
  const capacity = slotsOf(options, { tokens: group, nExperts, topK: k });
  const groups = group === 0 ? 0 : n / group;
  const rows = Math.min(n * k, groups * nExperts * capacity);
  const order = priority === 'probability' && n > 0 ? byProbability(routing.probabilities, group) : null;
  const assign = (ranking: Tensor): Tensor =>
    assignCapacity(ranking, { k, capacity, group, overflow, experts: nExperts, order });
  if (overflow === 'drop') {
    const expertIds = assign(routing.expertIds);
    const { combineWeights } = routing;
    return {
      ...routing,
      expertIds,
      combineWeights: options.renormalize ? keptWeights(combineWeights, expertIds) : combineWeights,
      rows,
    };
  }
  const { ranking, weigh } = routing;
  if (!ranking || !weigh) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[capacity] got overflow 'next-best' for gating '${policy}', which ranks no further experts, expected 'drop'`,
    );
  }
  const expertIds = assign(ranking());
  return { ...routing, expertIds, combineWeights: weigh(expertIds), rows };
}

function slotsOf(
  { slots, factor, tokenShare, rounding, minimum }: CapacityOptions,
  { tokens, nExperts, topK }: { tokens: number; nExperts: number; topK: number },
): number {
  if (slots !== undefined) return slots;
  // with E / k for the factor the formula would round another number
  if (tokenShare !== undefined)
    return expertCapacity({ tokens, nExperts: 1, factor: tokenShare, rounding, minimum });
  return expertCapacity({ tokens, nExperts, factor: factor as number, topK, rounding, minimum });
}

/** What is divided by at least: a token that keeps nothing has no weights. */
const SMALLEST = 1e-30;

/** Weights [N, K] of the choices that are left, with the sum that all had. */
function keptWeights(weights: Tensor, expertIds: Tensor): Tensor {
  const kept = where(greaterEqual(expertIds, 0), weights, 0);
  const total = (w: Tensor): Tensor => sum(w, 1, { keepDims: true });
  return mul(kept, div(total(weights), maximum(total(kept), SMALLEST)));
}

function groupSize(group: 'sequence' | 'batch' | number, n: number, sequences: number): number {
  if (group === 'batch') return n;
  if (group === 'sequence') return sequences === 0 ? 0 : n / sequences;
  if (n % group !== 0)
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[capacity] got ${n} tokens in groups of ${group}, expected a multiple of it`,
    );
  return group;
}

/** For each group its tokens by falling largest probability, ties in token order: i32 [N]. */
function byProbability(probabilities: Tensor, group: number): Tensor {
  const n = probabilities.shape[0] as number;
  const best = reshape(max(probabilities, 1), [n / group, group]);
  return reshape(sort(neg(best)).indices, [n]);
}
