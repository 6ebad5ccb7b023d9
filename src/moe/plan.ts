/** What routing decided, in the form that experts work on. */
import { mul } from '../core/ops/elementwise.js';
import type { DispatchPlan } from '../core/ops/routing.js';
import { iota } from '../core/ops/shape.js';
import type { Tensor } from '../core/tensor.js';
import type { MergedRouting, SoftRouting, SparseRouting } from './gating/index.js';

interface Routed {
  /** f32 [N, E·outputsPerExpert]; zeros [N, E] where the policy has no router. */
  readonly routerLogits: Tensor;
}

/** Who goes where: tokens with experts, and rows sorted by expert. */
export interface SparsePlan extends Routed, DispatchPlan, SparseRouting {
  /** i32 [N, K]: the choice before capacity; equals `expertIds` where nothing overflowed. */
  readonly wishedIds: Tensor;
  /** [N, K]: the weights of `wishedIds`. */
  readonly wishedWeights: Tensor;
}
export interface SoftPlan extends Routed, SoftRouting {}
export interface MergedPlan extends Routed, MergedRouting {}
export type RoutingPlan = SparsePlan | SoftPlan | MergedPlan;

/** A plan of rows that lie sorted by expert already, `rows` for each, one row a token. */
export function sortedPlan(experts: number, rows: number): DispatchPlan {
  const all = experts * rows;
  return {
    expertOffsets: mul(iota([experts + 1]), rows),
    rowToken: iota([all]),
    slotRow: iota([all, 1]),
  };
}
