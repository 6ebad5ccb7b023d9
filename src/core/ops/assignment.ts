/** Assignment: which experts tokens get where places are limited. */
import { SwitchyardError } from '../errors.js';
import { apply1, checkDType, checkInt, checkRank, checkSize, defineOp, tensorInput } from '../op.js';
import type { Tensor } from '../tensor.js';
import { checkIndex, codeOf } from './moe-checks.js';

/** What becomes of a choice whose expert is full. */
export const OVERFLOWS = ['drop', 'next-best'] as const;
export type Overflow = (typeof OVERFLOWS)[number];
const LARGEST = 2 ** 31 - 1;
/** The kernel holds a matrix of experts by experts. */
const MOST_BALANCED_EXPERTS = 4096;

const capacityOp = defineOp({
  name: 'moe_capacity',
  attrs: { k: 'int', capacity: 'int', group: 'int', overflow: 'int', experts: 'int' },
  infer(inputs, attrs) {
    const ranking = tensorInput('moe_capacity', 'ranking', inputs[0]); // [N, M]
    checkIndex('moe_capacity', 'ranking', ranking, 2);
    const [n, m] = ranking.shape as [number, number];
    if (inputs[1]) {
      const order = tensorInput('moe_capacity', 'order', inputs[1]); // [N]
      checkIndex('moe_capacity', 'order', order, 1);
      checkSize('moe_capacity', 'order of length', order.size, n);
    }
    checkInt('moe_capacity', 'experts', attrs.experts, 1, 65536);
    checkInt('moe_capacity', 'capacity', attrs.capacity, 0, LARGEST);
    const overflow = OVERFLOWS[checkInt('moe_capacity', 'overflow', attrs.overflow, 0, OVERFLOWS.length - 1)];
    const k = checkInt('moe_capacity', 'k', attrs.k, 1, LARGEST);
    if (overflow === 'drop') checkSize('moe_capacity', 'choices in the ranking of a token', m, k);
    else checkInt('moe_capacity', 'k', k, 1, m);
    const group = checkInt('moe_capacity', 'group', attrs.group, n === 0 ? 0 : 1, LARGEST);
    if (n > 0 && n % group !== 0)
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[moe_capacity] got ${n} tokens, expected a multiple of the group of ${group}`,
      );
    return [{ dtype: 'i32', shape: [n, k] }];
  },
  gradient: 'nondifferentiable',
  lower: ({ attrs }) => ({
    kernel: 'moe_capacity',
    attrs: (['k', 'capacity', 'group', 'overflow', 'experts'] as const).map((name) => ({
      type: 'int',
      value: attrs[name] as number,
    })),
  }),
});

export interface CapacityOptions {
  /** Experts a token gets at most. */
  k: number;
  /** Places of each expert for each group. */
  capacity: number;
  /** Consecutive tokens that share places. Default: all tokens. */
  group?: number;
  /** Default 'drop': the choice is lost. 'next-best': the token takes the next of its ranking that has room. */
  overflow?: Overflow;
  experts: number;
  /** i32 [N]: for each group a permutation of 0 … group - 1, the order of service. Default: as tokens stand. */
  order?: Tensor | null;
}
/**
 * Expert ids i32 [N, k], -1 for none, from a ranking i32 [N, M] of experts by falling preference (-1: no wish).
 * 'drop' (M = k) serves all first choices before any second one (GShard, Lepikhin et al. 2020, Algorithm 1) and
 * keeps a choice in its place; 'next-best' (M ≥ k) serves a token whole and gives it no expert twice.
 * An order by priority: V-MoE, Riquelme et al. 2021, Algorithm 2.
 */
export function assignCapacity(
  ranking: Tensor,
  { k, capacity, group, overflow = 'drop', experts, order = null }: CapacityOptions,
): Tensor {
  const code = codeOf('moe_capacity', 'overflow', overflow, OVERFLOWS);
  const size = group ?? ranking.shape[0] ?? 0;
  return apply1(capacityOp, [ranking, order], { k, capacity, group: size, overflow: code, experts });
}

const balancedOp = defineOp({
  name: 'balanced_assignment',
  attrs: { capacity: 'int' },
  infer(inputs, attrs) {
    const scores = tensorInput('balanced_assignment', 'scores', inputs[0]); // [N, E]
    checkDType('balanced_assignment', 'scores', scores.dtype, 'f32');
    checkRank('balanced_assignment', 'scores', scores.shape, 2);
    const [n, e] = scores.shape as [number, number];
    const experts = checkInt('balanced_assignment', 'experts', e, 1, MOST_BALANCED_EXPERTS);
    const capacity = checkInt('balanced_assignment', 'capacity', attrs.capacity, 1, LARGEST);
    checkInt('balanced_assignment', 'tokens', n, 0, Math.min(experts * capacity, LARGEST));
    return [{ dtype: 'i32', shape: [n] }];
  },
  gradient: 'nondifferentiable',
  lower: ({ attrs }) => ({
    kernel: 'balanced_assignment',
    attrs: [{ type: 'int', value: attrs.capacity as number }],
  }),
});

/**
 * One expert for each token, i32 [N]: the choice with the largest sum of scores [N, E] among those that give no
 * expert more than `capacity` tokens (default: N / E, rounded up). Exact: the linear assignment problem of BASE
 * layers, Lewis et al. 2021, equations 3 and 4.
 */
export function balancedAssignment(scores: Tensor, { capacity }: { capacity?: number } = {}): Tensor {
  const [n = 0, experts = 1] = scores.shape;
  return apply1(balancedOp, [scores], { capacity: capacity ?? Math.max(1, Math.ceil(n / experts)) });
}
