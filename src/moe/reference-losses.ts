/** The losses of routing by their definitions, without coefficients, in float64. See reference.ts. */
import { column, dot, erf, largest, type Matrix, softmax, sumOf, type Vector } from './reference.js';

const meanOf = (v: Vector): number => sumOf(v) / v.length;
const columns = (m: Matrix): number[][] => (m[0] ?? []).map((_, e) => column(m, e));
/** P_e: mean of a column. */
const meanColumns = (m: Matrix): number[] => columns(m).map(meanOf);

/** Tokens that chose each of E experts; -1 is none. @param ids [N, K] */
export const choiceCounts = (ids: Matrix, experts: number): number[] =>
  Array.from({ length: experts }, (_, e) => ids.flat().filter((id) => id === e).length);

/** G [N, E] of chosen experts with their weights, 0 elsewhere. */
export const gateMatrix = (ids: Matrix, weights: Matrix, experts: number): Matrix =>
  ids.map((row, t) =>
    Array.from({ length: experts }, (_, e) =>
      row.includes(e) ? (weights[t]?.[row.indexOf(e)] as number) : 0,
    ),
  );

/** Squared coefficient of variation, with the variance of the population. */
export function cvSquared(v: Vector): number {
  const mean = meanOf(v);
  return meanOf(v.map((x) => (x - mean) ** 2)) / mean ** 2;
}

/** Importance(X) = Σ_x G(x) (Shazeer et al. 2017, eq. 6; the loss is its CV², eq. 7). */
export const importance = (gates: Matrix): number[] => columns(gates).map(sumOf);

/**
 * Load(X)_i = Σ_x Φ((x·W_g - kth_excluding(H, k, i)) / std): expert i is among the k best when only its noise is drawn again
 * (Shazeer et al. 2017, eq. 8-10; the loss is its CV², eq. 11).
 */
export function smoothLoad(clean: Matrix, noisy: Matrix, std: Matrix, k: number): number[] {
  const chance = clean.map((row, t) =>
    row.map((x, i) => {
      const others = (noisy[t] as Vector).filter((_, e) => e !== i);
      if (others.length < k) return 1; // always chosen
      const threshold = others[largest(others, k)[k - 1] as number] as number;
      return (1 + erf((x - threshold) / (std[t]?.[i] as number) / Math.SQRT2)) / 2;
    }),
  );
  return columns(chance).map(sumOf);
}

/** E Σ f P, f_e = share of the tokens that chose e (Fedus et al. 2021, eq. 4-6). */
export function switchLoss(probabilities: Matrix, ids: Matrix): number {
  const p = meanColumns(probabilities);
  const f = choiceCounts(ids, p.length).map((n) => n / ids.length);
  return p.length * dot(f, p);
}

/** f_e = E / (K N) · tokens that chose e; P_e = mean probability (Dai et al. 2024, DeepSeekMoE, eq. 13-14). */
export function balanceShares(probabilities: Matrix, ids: Matrix): { f: number[]; p: number[] } {
  const p = meanColumns(probabilities);
  const wishes = ids.length * (ids[0]?.length ?? 0);
  return { f: choiceCounts(ids, p.length).map((n) => (p.length * n) / wishes), p };
}

/** Σ f P over experts (Dai et al. 2024, eq. 12). */
export function expertBalance(probabilities: Matrix, ids: Matrix): number {
  const { f, p } = balanceShares(probabilities, ids);
  return dot(f, p);
}

/** Device d of `devices` equal runs of experts. */
const onDevices = (v: Vector, devices: number): Vector[] => {
  const each = v.length / devices;
  return Array.from({ length: devices }, (_, d) => v.slice(d * each, (d + 1) * each));
};

/** f'_d = mean of f on the device, P'_d = sum of P (Dai et al. 2024, eq. 16-17; the loss is Σ f' P', eq. 15). */
export function deviceShares(
  probabilities: Matrix,
  ids: Matrix,
  devices: number,
): { f: number[]; p: number[] } {
  const { f, p } = balanceShares(probabilities, ids);
  return { f: onDevices(f, devices).map(meanOf), p: onDevices(p, devices).map(sumOf) };
}
export function deviceBalance(probabilities: Matrix, ids: Matrix, devices: number): number {
  const { f, p } = deviceShares(probabilities, ids, devices);
  return dot(f, p);
}

/** f''_d = D / (M N) · tokens sent to device d, P''_d = sum of P (DeepSeek-V2, eq. 30-31; the loss is Σ f'' P'', eq. 29). */
export function communicationShares(
  probabilities: Matrix,
  ids: Matrix,
  { devices, limit }: { devices: number; limit: number },
): { f: number[]; p: number[] } {
  const p = meanColumns(probabilities);
  const each = p.length / devices;
  const sent = (d: number): number =>
    ids.filter((row) => row.some((e) => e !== -1 && Math.floor(e / each) === d)).length;
  const f = Array.from({ length: devices }, (_, d) => (devices * sent(d)) / (limit * ids.length));
  return { f, p: onDevices(p, devices).map(sumOf) };
}
export function communicationBalance(
  probabilities: Matrix,
  ids: Matrix,
  options: { devices: number; limit: number },
): number {
  const { f, p } = communicationShares(probabilities, ids, options);
  return dot(f, p);
}

/** The expert-level loss of each sequence, meaned, with P from s / Σ s (DeepSeek-V3, eq. 17-20). */
export function sequenceBalance(probabilities: Matrix, ids: Matrix, sequences: number): number {
  const time = ids.length / sequences;
  const of = (m: Matrix, b: number): Matrix => m.slice(b * time, (b + 1) * time);
  return meanOf(Array.from({ length: sequences }, (_, b) => expertBalance(of(probabilities, b), of(ids, b))));
}

/** logsumexp(logits)² of each token (Zoph et al. 2022, eq. 5; the loss is the mean). */
export const routerZ = (logits: Matrix): number[] =>
  logits.map((row) => {
    const most = Math.max(...row);
    return (most + Math.log(sumOf(row.map((x) => Math.exp(x - most))))) ** 2;
  });

/** b_e + rate · sign(mean load - load_e) (Wang et al. 2024, algorithm 1). */
export function biasAfter(bias: Vector, load: Vector, rate: number): number[] {
  const mean = meanOf(load);
  return bias.map((b, e) => b + rate * Math.sign(mean - (load[e] as number)));
}

/** Errors of a mixture, halves of squares included (Jacobs et al. 1991). @param outputs o [N, E, Dout]; @param target d [N, Dout] */
export function mixtureLosses(
  logits: Matrix,
  outputs: readonly Matrix[],
  target: Matrix,
): { perCase: number[]; posterior: Matrix; loss: number; blend: number; competitive: number } {
  const p = logits.map(softmax);
  const squared = (a: Vector, b: Vector): number => sumOf(a.map((x, i) => (x - (b[i] as number)) ** 2));
  /** ½|d - o_e|² */
  const half = outputs.map((o, t) => o.map((row) => squared(target[t] as Vector, row) / 2));
  const joint = p.map((row, t) => row.map((x, e) => x * Math.exp(-(half[t]?.[e] as number))));
  const perCase = joint.map((row) => -Math.log(sumOf(row))); // eq. 1.3
  const blended = outputs.map((o, t) => columns(o).map((of) => dot(p[t] as Vector, of)));
  return {
    perCase,
    posterior: joint.map((row) => row.map((x) => x / sumOf(row))),
    loss: meanOf(perCase),
    blend: meanOf(blended.map((y, t) => squared(target[t] as Vector, y) / 2)), // eq. 1.1
    competitive: meanOf(p.map((row, t) => dot(row, half[t] as Vector))), // eq. 1.2
  };
}
