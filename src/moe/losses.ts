/** Auxiliary losses of routing, as values; nothing is kept between calls. None is scaled: multiply by your coefficient. */
import { SwitchyardError } from '../core/errors.js';
import {
  add,
  cast,
  div,
  equal,
  less,
  maximum,
  mul,
  sign,
  square,
  sub,
  where,
} from '../core/ops/elementwise.js';
import { oneHot, scatterAddAlong } from '../core/ops/indexing.js';
import { softmax } from '../core/ops/norm.js';
import { logSumExp, max, mean, sum } from '../core/ops/reduce.js';
import { concat, reshape } from '../core/ops/shape.js';
import type { Tensor } from '../core/tensor.js';

export interface LayerRouting {
  /** [N, E] */
  readonly routerLogits: Tensor;
  /** i32 [N, K] */
  readonly expertIds: Tensor;
}

/** Router probabilities with the choices made from them. */
export interface Choices {
  /** [N, E] */
  readonly probabilities: Tensor;
  /** i32 [N, K], -1: none */
  readonly expertIds: Tensor;
}

const some = (count: number): number => Math.max(1, count); // no tokens: a loss of 0, not of 0 / 0

/** Tokens that chose each expert, f32 [E]: constant for gradients. */
export const choiceCounts = (expertIds: Tensor, nExperts: number): Tensor =>
  sum(oneHot(expertIds, nExperts), [0, 1]);

/** P [E]: the mean over tokens. */
const meanProbability = (probabilities: Tensor): Tensor =>
  div(sum(probabilities, 0), some(probabilities.shape[0] as number));

/** G [N, E]: the weights of the chosen experts, 0 elsewhere. */
export function gateMatrix(expertIds: Tensor, combineWeights: Tensor, nExperts: number): Tensor {
  const weights = where(less(expertIds, 0), 0, combineWeights);
  return scatterAddAlong(weights, maximum(expertIds, 0), nExperts);
}

/** Variance (of the population) over the squared mean; 0 for a mean of 0. */
export function cvSquared(v: Tensor): Tensor {
  const average = mean(v);
  const variance = mean(square(sub(v, average)));
  return div(variance, where(equal(average, 0), 1, square(average)));
}

/** CV²(Σ_x G(x)) (Shazeer et al. 2017, eq. 6-7). @param gates G [N, E] */
export const importanceLoss = (gates: Tensor): Tensor => cvSquared(sum(gates, 0));

/** CV²(Load(X)) (Shazeer et al. 2017, eq. 11). @param load [E], see `smoothLoad` */
export const loadLoss = (load: Tensor): Tensor => cvSquared(load);

/** E · Σ_e f_e · P_e; f_e = tokens that chose e / N (their sum is k), P_e = mean probability (Fedus et al. 2021, eq. 4-6). */
export function switchLoss({ probabilities, expertIds }: Choices): Tensor {
  const [n, e] = probabilities.shape as [number, number];
  const f = div(choiceCounts(expertIds, e), some(n));
  return mul(sum(mul(f, meanProbability(probabilities))), e);
}

/** The Switch loss over the tokens of all layers together, not divided by k, as Mixtral-like models have it. */
export const loadBalancingLoss = (layers: readonly LayerRouting[]): Tensor =>
  switchLoss({
    probabilities: softmax(concat(layers.map((l) => l.routerLogits))), // [L·N, E]
    expertIds: concat(layers.map((l) => l.expertIds)), // [L·N, K]
  });

/** f_e = E / (K N) · tokens that chose e, and P_e = mean probability (Dai et al. 2024, DeepSeekMoE, eq. 13-14). */
function shares({ probabilities, expertIds }: Choices): { f: Tensor; p: Tensor } {
  const e = probabilities.shape[1] as number;
  const f = mul(choiceCounts(expertIds, e), e / some(expertIds.size));
  return { f, p: meanProbability(probabilities) };
}

/** Expert-level balance Σ f_e P_e (Dai et al. 2024, eq. 12). */
export function expertBalanceLoss(choices: Choices): Tensor {
  const { f, p } = shares(choices);
  return sum(mul(f, p));
}

function devicesOf(where: string, experts: number, devices: number): number {
  if (!Number.isInteger(devices) || devices < 1 || experts % devices !== 0) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[${where}] got ${devices} devices for ${experts} experts, expected equal parts`,
    );
  }
  return experts / devices;
}

/** Device-level balance Σ_d f'_d P'_d over groups of consecutive experts, f' the mean of f, P' the sum of P (Dai et al. 2024, eq. 15-17). */
export function deviceBalanceLoss(choices: Choices, devices: number): Tensor {
  const each = devicesOf('deviceBalanceLoss', choices.probabilities.shape[1] as number, devices);
  const { f, p } = shares(choices);
  return sum(mul(mean(reshape(f, [devices, each]), 1), sum(reshape(p, [devices, each]), 1)));
}

/**
 * Communication balance Σ_d f''_d P''_d; f''_d = D / (M N) · tokens sent to device d, once each (DeepSeek-V2, eq. 29-31).
 * @param limit M, devices that a token may reach
 */
export function communicationBalanceLoss(choices: Choices, devices: number, limit: number): Tensor {
  const { probabilities, expertIds } = choices;
  const [n, e] = probabilities.shape as [number, number];
  const each = devicesOf('communicationBalanceLoss', e, devices);
  const chosen = n === 0 ? probabilities : max(oneHot(expertIds, e), 1); // [N, E]
  const reached = max(reshape(chosen, [n, devices, each]), 2); // [N, D]
  const f = mul(sum(reached, 0), devices / (limit * some(n)));
  return sum(mul(f, sum(reshape(meanProbability(probabilities), [devices, each]), 1)));
}

/**
 * Complementary sequence-wise balance: the expert-level loss of each sequence, meaned (DeepSeek-V3, eq. 17-20).
 * Counts the choices it is given; the paper's are the k best scores without bias, which differ under a selection bias.
 * @param choices of N = B·T tokens, those of a sequence together
 */
export function sequenceBalanceLoss({ probabilities, expertIds }: Choices, sequences: number): Tensor {
  const [n, e] = probabilities.shape as [number, number];
  const k = expertIds.shape[1] as number;
  const time = sequences === 0 ? 0 : n / sequences;
  const counts = sum(reshape(oneHot(expertIds, e), [sequences, time * k, e]), 1); // [B, E]
  const f = mul(counts, e / some(time * k));
  const p = div(sum(reshape(probabilities, [sequences, time, e]), 1), some(time)); // [B, E]
  return div(sum(mul(f, p)), some(sequences));
}

/** Router z-loss: mean of logsumexp(logits)² (Zoph et al. 2022, eq. 5). @param logits [N, E] */
export const routerZLoss = (logits: Tensor): Tensor =>
  div(sum(square(logSumExp(logits))), some(logits.shape[0] as number));

export interface BiasUpdateOptions {
  /** γ, the step. Default 0.001. */
  rate?: number;
}

/**
 * Balance without an auxiliary loss: bias_e + γ · sign(mean load - load_e) (Wang et al. 2024, algorithm 1).
 * @param bias [E]; @param load tokens that chose each expert, [E], or the choices i32 [N, K]
 */
export function updateSelectionBias(
  bias: Tensor,
  load: Tensor,
  { rate = 0.001 }: BiasUpdateOptions = {},
): Tensor {
  const e = bias.shape[0] as number;
  const counts = load.rank === 2 ? choiceCounts(load, e) : cast(load, 'f32');
  return add(bias, mul(sign(sub(mean(counts), counts)), rate));
}
