/** Checks that the ops of the MoE set share. */
import { SwitchyardError } from '../errors.js';
import { checkDType, checkRank, checkSize } from '../op.js';
import type { Tensor } from '../tensor.js';

/** Combine weights [N, K] beside the slots of the same tokens. */
export function checkWeights(name: string, weights: Tensor, slotRow: Tensor): void {
  checkDType(name, 'combine weights', weights.dtype, 'f32');
  checkRank(name, 'combine weights', weights.shape, 2);
  checkSize(name, 'rows of combine weights', weights.shape[0] as number, slotRow.shape[0] as number);
  checkSize(name, 'combine weights a token', weights.shape[1] as number, slotRow.shape[1] as number);
}
export function checkIndex(name: string, what: string, t: Tensor, rank: number): void {
  checkDType(name, what, t.dtype, 'i32');
  checkRank(name, what, t.shape, rank);
}
/** The place of an option's value in the list of all. */
export function codeOf(name: string, what: string, value: string, all: readonly string[]): number {
  const code = all.indexOf(value);
  if (code < 0)
    throw new SwitchyardError('ERR_OPTION', `[${name}] got ${what} '${value}', expected ${all.join(' or ')}`);
  return code;
}
