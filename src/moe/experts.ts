/** Experts at work: one path for rows that are sorted by expert, whoever sorted them. */
import { SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import { type Activation, cast, ones } from '../core/ops/elementwise.js';
import { expertLayer } from '../core/ops/expert-layer.js';
import { moeExperts } from '../core/ops/experts.js';
import type { GateClamp } from '../core/ops/hidden.js';
import { matmul } from '../core/ops/linalg.js';
import type { DispatchPlan } from '../core/ops/routing.js';
import { broadcastTo, reshape, transpose } from '../core/ops/shape.js';
import { Tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import type { MergedRouting, NoiseSource, SoftRouting } from './gating/index.js';
import { sortedPlan } from './plan.js';
import type { SplitExperts } from './split-experts.js';

/** The experts of a sparse layer, stacked: packed weights for inference, or tensors that gradients reach. */
export interface ExpertParameters {
  /** E × [F, D]; null for experts without a gate. */
  readonly gate: Weight | Tensor | null;
  /** E × [F, D]; null for linear experts, which are `down` alone (tensors only). */
  readonly up: Weight | Tensor | null;
  /** E × [Dout, F] */
  readonly down: Weight | Tensor;
  /** [E, F] */
  readonly gateBias?: Tensor | null;
  /** [E, F] */
  readonly upBias?: Tensor | null;
  /** [E, Dout] */
  readonly downBias?: Tensor | null;
  /** Places of some of them on a GPU, where the matrices lie with the host; absent: they have none. */
  readonly split?: SplitExperts | null;
}

export interface RunOptions {
  readonly activation: Activation;
  readonly clamp?: GateClamp | null;
  readonly compute: ComputeMode;
  /** Share of hidden activations that is dropped; null: none. */
  readonly dropout: { readonly rate: number; readonly noise: NoiseSource } | null;
}

/** The share of dropped activations, or an error: all of them is no share. */
export function checkDropout(rate: number): number {
  if (rate >= 0 && rate < 1) return rate;
  throw new SwitchyardError('ERR_OPTION', `[experts] got dropout ${rate}, expected 0 up to less than 1`);
}

/** Dispatch, gate and up, activation, down, combine: x [N, D] → [N, Dout]. */
export function runExperts(
  x: Tensor,
  plan: DispatchPlan,
  combineWeights: Tensor,
  experts: ExpertParameters,
  { activation, clamp = null, compute, dropout }: RunOptions,
): Tensor {
  const { gate, up, down } = experts;
  const biases = {
    gateBias: f32(experts.gateBias),
    upBias: f32(experts.upBias),
    downBias: f32(experts.downBias),
  };
  if (up instanceof Weight && down instanceof Weight && !(gate instanceof Tensor)) {
    if (dropout)
      throw new SwitchyardError('ERR_OPTION', '[experts] got dropout with packed experts, expected tensors', {
        hint: 'packed weights are not trained: run the layer without training: true',
      });
    return moeExperts(x, plan, combineWeights, { gate, up, down, ...biases }, { activation, compute, clamp });
  }
  if (up instanceof Weight || down instanceof Weight || gate instanceof Weight) {
    throw new SwitchyardError(
      'ERR_OPTION',
      '[experts] got packed weights beside tensors (or without up), expected all experts of one kind',
    );
  }
  const tensors = { gate: f32(gate), up: f32(up), down: f32(down), ...biases };
  const hidden = plan.rowToken.size * (down.shape[2] as number);
  return expertLayer(x, plan, combineWeights, tensors, {
    activation,
    clamp,
    dropout: dropout && { rate: dropout.rate, ...dropout.noise.part(hidden) },
  }).y;
}

/** Narrow floats are widened: products of tensors compute in f32. */
const f32 = <T extends Tensor | null | undefined>(t: T): T | Tensor => (t ? cast(t, 'f32') : t);

/** Rows that lie sorted by expert, `rows` for each, [E·rows, D] → [E·rows, Dout]. */
function runSorted(x: Tensor, experts: ExpertParameters, count: number, options: RunOptions): Tensor {
  const all = x.shape[0] as number;
  const plan = sortedPlan(count, count === 0 ? 0 : all / count);
  return runExperts(x, plan, ones([all, 1]), experts, options);
}

/** Soft routing: slots take weighted means of tokens, experts run on slots, tokens take weighted means of slots. */
export function runSlots(
  x: Tensor,
  { dispatch, combine }: SoftRouting,
  experts: ExpertParameters,
  nExperts: number,
  options: RunOptions,
): Tensor {
  const [b, t, all] = dispatch.shape as [number, number, number]; // all = E·S
  const s = all / nExperts;
  const d = x.shape[1] as number;
  const inputs = matmul(dispatch, reshape(x, [b, t, d]), { transposeA: true }); // [B, E·S, D]
  const sorted = reshape(transpose(reshape(inputs, [b, nExperts, s, d]), [1, 0, 2, 3]), [
    nExperts * b * s,
    d,
  ]);
  const y = runSorted(sorted, experts, nExperts, options);
  const out = y.shape[1] as number;
  const slots = reshape(transpose(reshape(y, [nExperts, b, s, out]), [1, 0, 2, 3]), [b, all, out]);
  return reshape(matmul(combine, slots), [b * t, out]);
}

/** Merged routing: the experts of a sequence are averaged, and the one merged expert sees its tokens. */
export function runMerged(
  x: Tensor,
  { shares }: MergedRouting,
  experts: ExpertParameters,
  options: RunOptions,
): Tensor {
  const b = shares.shape[0] as number;
  const merged = <T extends Weight | Tensor | null | undefined>(m: T): Tensor | T => {
    if (m instanceof Weight)
      throw new SwitchyardError('ERR_OPTION', '[experts] got packed experts to merge, expected tensors', {
        hint: 'soft-merging averages parameters: give the layer its experts as tensors',
      });
    if (!(m instanceof Tensor)) return m;
    const [e, ...shape] = m.shape as [number, ...number[]];
    return reshape(matmul(shares, reshape(m, [e, m.size / e])), [b, ...shape]);
  };
  const { gate, up, down, gateBias, upBias, downBias } = experts;
  const parameters = {
    gate: merged(gate),
    up: merged(up),
    down: merged(down),
    gateBias: merged(gateBias),
    upBias: merged(upBias),
    downBias: merged(downBias),
  };
  return runSorted(x, parameters, b, options);
}

/**
 * The output of every expert on every token, uncombined: x [N, D] → [N, E, Dout]. For losses that compare experts, such as
 * `adaptiveMixtureLoss`.
 */
export function expertOutputs(
  x: Tensor,
  experts: ExpertParameters,
  { activation = 'silu' as Activation, compute = 'f32' as ComputeMode } = {},
): Tensor {
  const [n, d] = x.shape as [number, number];
  const { down } = experts;
  const e = down instanceof Weight ? down.experts : (down.shape[0] as number);
  const repeated = reshape(broadcastTo(reshape(x, [1, n, d]), [e, n, d]), [e * n, d]);
  const y = runSorted(repeated, experts, e, { activation, compute, dropout: null });
  const out = y.shape[1] as number;
  return transpose(reshape(y, [e, n, out]), [1, 0, 2]);
}
