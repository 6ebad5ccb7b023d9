/** What experts make of their pre-activations: one rule for packed experts, tensors and their gradients. */

import { SwitchyardError } from '../errors.js';
import { type Attrs, checkInt } from '../op.js';
import type { Tensor } from '../tensor.js';
import {
  ACTIVATION_NAMES,
  ACTIVATIONS,
  type Activation,
  add,
  clamp,
  minimum,
  mul,
  sigmoid,
} from './elementwise.js';

/** (u + 1) · g · σ(slope · g) with g = min(gate, limit) and u = up within ±limit (gpt-oss, arXiv 2508.10925). */
export interface GateClamp {
  /** Above 0. */
  readonly limit: number;
  readonly slope: number;
}

export const HIDDEN_ATTRS = { activation: 'int', limit: 'float', slope: 'float' } as const;

export const hiddenAttrs = (activation: Activation, clamped: GateClamp | null | undefined): Attrs => ({
  activation: ACTIVATION_NAMES.indexOf(activation),
  limit: clamped?.limit ?? 0,
  slope: clamped?.slope ?? 0,
});

/** @throws SwitchyardError ERR_OPTION for a clamp of experts without a gate, or by another activation than silu */
export function checkHidden(name: string, { activation, limit, slope }: Attrs, gated: boolean): void {
  checkInt(name, 'activation', activation, 0, ACTIVATION_NAMES.length - 1);
  if (limit === 0) return;
  const numbers = [limit, slope].every((v) => typeof v === 'number' && v > 0 && v < Infinity);
  if (numbers && gated && activation === 0) return;
  throw new SwitchyardError(
    'ERR_OPTION',
    `[${name}] got limit ${String(limit)} and slope ${String(slope)}, expected positive numbers, and experts with a gate by silu`,
  );
}

/** act(gate) · up, or act(up) without a gate; clamped where the attributes have a limit. */
export function hiddenOf({ activation, limit, slope }: Attrs, gate: Tensor | null, up: Tensor): Tensor {
  const act = ACTIVATIONS[ACTIVATION_NAMES[activation as number] as Activation];
  if (!gate) return act(up);
  const bound = limit as number;
  if (bound === 0) return mul(act(gate), up);
  const g = minimum(gate, bound);
  return mul(add(clamp(up, -bound, bound), 1), mul(g, sigmoid(mul(g, slope as number))));
}
