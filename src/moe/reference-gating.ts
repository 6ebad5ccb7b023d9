/** The gating policies by their definitions: logits [N, E] of all tokens to experts and weights, in float64. See reference.ts. */
import {
  column,
  largest,
  linear,
  type Matrix,
  pick,
  type ReferenceMerged,
  type ReferenceSoft,
  type ReferenceSparse,
  ranked,
  referenceCapacity,
  sigmoid,
  softmax,
  sumOf,
  type Vector,
} from './reference.js';

/** Divides by the sum (+ epsilon) where asked, and scales. */
function scaledWeights(w: Vector, { renormalize = false, scale = 1, epsilon = 0 }): number[] {
  const sum = renormalize ? sumOf(w) + epsilon : 1;
  return w.map((x) => (x * scale) / sum);
}

/** The k best by `preference` of each token, weighed by `weigh`. */
function topOf(
  preference: Matrix,
  k: number,
  probabilities: Matrix,
  weigh: (t: number, ids: Vector) => number[],
): ReferenceSparse {
  const ids = preference.map((row) => largest(row, k));
  return {
    kind: 'sparse',
    ids,
    weights: ids.map((row, t) => weigh(t, row)),
    probabilities,
    preference,
    weigh,
  };
}

const biased = (m: Matrix, bias?: Vector | null): Matrix =>
  m.map((row) => row.map((x, e) => x + (bias?.[e] ?? 0)));

/** p = softmax over all experts, the k largest (p + bias) with the weights p (Jiang et al. 2024, Mixtral, section 2.1). */
export function softmaxTopK(
  logits: Matrix,
  {
    k,
    renormalize = true,
    scale = 1,
    bias,
  }: { k: number; renormalize?: boolean; scale?: number; bias?: Vector | null },
): ReferenceSparse {
  const p = logits.map(softmax);
  return topOf(biased(p, bias), k, p, (t, ids) =>
    scaledWeights(pick(p[t] as Vector, ids), { renormalize, scale }),
  );
}

/** KeepTopK, then softmax over what is kept (Shazeer et al. 2017, eq. 3 and 5). */
export function topKSoftmax(
  logits: Matrix,
  { k, bias }: { k: number; bias?: Vector | null },
): ReferenceSparse {
  return topOf(biased(logits, bias), k, logits.map(softmax), (t, ids) =>
    softmax(pick(logits[t] as Vector, ids)),
  );
}

/** One after another: the softmax over the logits near the largest that is left (Liu et al. 2024, GRIN, section 3). */
export function sparseMixer(
  logits: Matrix,
  { k, jitter = 0.01, bias }: { k: number; jitter?: number; bias?: Vector | null },
): ReferenceSparse {
  const weigh = (t: number, ids: Vector): number[] => {
    const row = logits[t] as Vector;
    const falling = ids
      .filter((id) => id >= 0)
      .sort((a, b) => (row[b] as number) - (row[a] as number) || a - b);
    const weights = new Map<number, number>();
    const left = [...row];
    for (const id of falling) {
      const best = Math.max(...left);
      const near = left.map((x, e) => {
        const size = Math.max(Math.abs(row[e] as number), best);
        return (best - (row[e] as number)) / size > 2 * jitter ? -Infinity : x;
      });
      weights.set(id, softmax(near)[id] as number);
      left[id] = -Infinity;
    }
    return ids.map((id) => weights.get(id) ?? 0);
  };
  return topOf(biased(logits, bias), k, logits.map(softmax), weigh);
}

/** softplus(x·W_noise) [N, E], the deviation of the noise (Shazeer et al. 2017, eq. 4). */
export const noiseStd = (x: Matrix, wNoise: Matrix): Matrix =>
  x.map((row) => linear(wNoise, row).map((z) => Math.max(z, 0) + Math.log1p(Math.exp(-Math.abs(z)))));

/** H = x·W_g + noise · std (Shazeer et al. 2017, eq. 4). */
export const noisyLogits = (clean: Matrix, noise: Matrix, std: Matrix): Matrix =>
  clean.map((row, t) => row.map((x, e) => x + (noise[t]?.[e] as number) * (std[t]?.[e] as number)));

/** G = softmax(KeepTopK(H, k)) (Shazeer et al. 2017, eq. 3-5). */
export const noisyTopK = (
  clean: Matrix,
  options: { k: number; noise: Matrix; std: Matrix; bias?: Vector | null },
): ReferenceSparse => topKSoftmax(noisyLogits(clean, options.noise, options.std), options);

/** The most probable expert, with its probability (Fedus et al. 2021, eq. 1-2). */
export const switchTop1 = (logits: Matrix): ReferenceSparse =>
  softmaxTopK(logits, { k: 1, renormalize: false });

/** Top-2, renormalised; the second stays where uniform · threshold < g₂ (Lepikhin et al. 2020, alg. 1, threshold ½; Zoph et al. 2022). */
export function stMoeTop2(
  logits: Matrix,
  { uniform, threshold = 0.2 }: { uniform: Vector; threshold?: number },
): ReferenceSparse {
  const both = softmaxTopK(logits, { k: 2 });
  const stays = (t: number): boolean => (uniform[t] as number) * threshold < (both.weights[t]?.[1] as number);
  return { ...both, ids: both.ids.map((row, t) => (stays(t) ? row : [row[0] as number, -1])) };
}

/** Scores of experts outside the best groups become -∞; groups are runs of experts, `groupScore` of a group's falling scores. */
function withinGroups(
  scores: Matrix,
  groups: number,
  topGroups: number,
  groupScore: (falling: Vector) => number,
): Matrix {
  if (groups === 1) return scores;
  return scores.map((row) => {
    const size = row.length / groups;
    const of = Array.from({ length: groups }, (_, g) => row.slice(g * size, (g + 1) * size));
    const best = largest(
      of.map((group) => groupScore(pick(group, ranked(group)))),
      topGroups,
    );
    return row.map((x, e) => (best.includes(Math.floor(e / size)) ? x : Number.NEGATIVE_INFINITY));
  });
}

export interface GroupOptions {
  k: number;
  groups?: number;
  topGroups?: number;
  renormalize?: boolean;
  scale?: number;
  bias?: Vector | null;
}

/** s = sigmoid, chosen by s + bias, weights from s; a group's score is that of its two best (DeepSeek-V3, eq. 12-16 and code). */
export function sigmoidTopK(logits: Matrix, options: GroupOptions): ReferenceSparse {
  const { k, groups = 1, topGroups = 1, renormalize = true, scale = 1, bias } = options;
  const s = logits.map((row) => row.map(sigmoid));
  const preference = withinGroups(biased(s, bias), groups, topGroups, (falling) =>
    sumOf(falling.slice(0, 2)),
  );
  const shares = s.map((row) => row.map((x) => x / sumOf(row)));
  return topOf(preference, k, shares, (t, ids) =>
    scaledWeights(pick(s[t] as Vector, ids), { renormalize, scale, epsilon: 1e-20 }),
  );
}

/** Softmax scores, at most `topGroups` devices, a device's score is its best expert's (DeepSeek-V2, section 2.1.2). */
export function groupLimitedGreedy(logits: Matrix, options: GroupOptions): ReferenceSparse {
  const { k, groups = 1, topGroups = 1, renormalize = false, scale = 1, bias } = options;
  const p = logits.map(softmax);
  const preference = withinGroups(biased(p, bias), groups, topGroups, (falling) => falling[0] as number);
  return topOf(preference, k, p, (t, ids) =>
    scaledWeights(pick(p[t] as Vector, ids), { renormalize, scale }),
  );
}

/**
 * Each expert takes the ⌈n·factor/E⌉ tokens of a group of n with the largest S = softmax(logits) (Zhou et al. 2022, eq. 1-3).
 * Column e of a token is e where that expert took it.
 */
export function expertChoice(
  logits: Matrix,
  { factor = 2, group = logits.length }: { factor?: number; group?: number },
): ReferenceSparse {
  const s = logits.map(softmax);
  const ids = s.map((row) => row.map(() => -1));
  for (let start = 0; start < s.length; start += group) {
    const rows = s.slice(start, start + group);
    const experts = (rows[0] as Vector).length;
    for (let e = 0; e < experts; e++)
      for (const t of largest(column(rows, e), referenceCapacity({ tokens: group, experts, factor })))
        (ids[start + t] as number[])[e] = e;
  }
  return { kind: 'sparse', ids, weights: s, probabilities: s };
}

/** Every expert, by its probability (Jordan & Jacobs 1994; Jacobs et al. 1991, eq. 1.1). */
export function dense(logits: Matrix): ReferenceSparse {
  const p = logits.map(softmax);
  return { kind: 'sparse', ids: p.map((row) => row.map((_, e) => e)), weights: p, probabilities: p };
}
export const adaptiveMixture = dense;

/** Dispatch: softmax over the tokens of a sequence; combine: softmax over slots (Puigcerver et al. 2023, eq. 1-3). @param logits [N, E·S] */
export function softMoe(logits: Matrix, { sequences = 1 }: { sequences?: number } = {}): ReferenceSoft {
  const time = logits.length / sequences;
  const dispatch = logits.map((row, t) => {
    const start = Math.floor(t / time) * time;
    const mine = logits.slice(start, start + time);
    return row.map((_, j) => softmax(column(mine, j))[t - start] as number);
  });
  return { kind: 'soft', dispatch, combine: logits.map(softmax) };
}

/** Each sequence's mean of the router probabilities (Muqeeth et al. 2023, section 3). */
export function softMerging(logits: Matrix, { sequences = 1 }: { sequences?: number } = {}): ReferenceMerged {
  const time = logits.length / sequences;
  const p = logits.map(softmax);
  const shares = Array.from({ length: sequences }, (_, b) => {
    const mine = p.slice(b * time, (b + 1) * time);
    return (p[0] as Vector).map((_, e) => sumOf(column(mine, e)) / time);
  });
  return { kind: 'merged', shares };
}

/** exp(logits), `rounds` times: rows to sum 1, then columns to sum N / E; a column of zeros stays (Clark et al. 2022, section 3.2). */
export function sinkhornPlan(logits: Matrix, rounds: number): Matrix {
  let plan: Matrix = logits.map((row) => row.map(Math.exp));
  for (let i = 0; i < rounds; i++) {
    plan = plan.map((row) => row.map((x) => x / sumOf(row)));
    const sums = (plan[0] as Vector).map((_, e) => sumOf(column(plan, e)));
    plan = plan.map((row) =>
      row.map((x, e) => (x === 0 ? 0 : (x * plan.length) / ((sums[e] as number) * row.length))),
    );
  }
  return plan;
}

/** One expert a token with the weight sigmoid(logit) (Lewis et al. 2021, eq. 1). */
const sigmoidTop1 = (logits: Matrix, preference: Matrix): ReferenceSparse =>
  topOf(preference, 1, logits.map(softmax), (t, ids) => pick(logits[t] as Vector, ids).map(sigmoid));

/** The largest of the balanced plan; of the logits outside of training (Clark et al. 2022, section 3.2). */
export const sinkhorn = (
  logits: Matrix,
  { rounds = 8, training = true }: { rounds?: number; training?: boolean } = {},
): ReferenceSparse =>
  sigmoidTop1(logits, training && logits.length > 0 ? sinkhornPlan(logits, rounds) : logits);

/** The assignment of tokens, at most ⌈N / E⌉ to an expert, with the largest sum of logits (Lewis et al. 2021, eq. 2-4). */
export function base(logits: Matrix, { training = true }: { training?: boolean } = {}): ReferenceSparse {
  const greedy = sigmoidTop1(logits, logits);
  if (!training || logits.length === 0) return greedy;
  const experts = (logits[0] as Vector).length;
  const places = Math.ceil(logits.length / experts);
  const copies = logits.map((row) => row.flatMap((x) => new Array<number>(places).fill(-x)));
  const ids = cheapestMatching(copies).map((place) => [Math.floor(place / places)]);
  const weights = ids.map(([e], t) => [sigmoid(logits[t]?.[e as number] as number)]);
  return { ...greedy, ids, weights };
}

/** Column of each row, all different, with the least sum of costs; rows ≤ columns (Kuhn 1955, shortest augmenting paths). */
export function cheapestMatching(costs: Matrix): number[] {
  const columns = costs[0]?.length ?? 0;
  const rowOf = new Array<number>(columns).fill(-1);
  const u = costs.map(() => 0); // duals: costs[i][j] ≥ u[i] + v[j], equal where matched
  const v = new Array<number>(columns).fill(0);
  for (let start = 0; start < costs.length; start++) {
    const distance = new Array<number>(columns).fill(Number.POSITIVE_INFINITY);
    const before = new Array<number>(columns).fill(-1);
    const done = new Set<number>();
    let row = start;
    let at = -1;
    while (true) {
      for (let j = 0; j < columns; j++) {
        if (done.has(j)) continue;
        const reduced = (costs[row]?.[j] as number) - (u[row] as number) - (v[j] as number);
        if (reduced < (distance[j] as number)) [distance[j], before[j]] = [reduced, at];
      }
      const open = distance.map((d, j) => (done.has(j) ? Number.NEGATIVE_INFINITY : -d));
      const next = ranked(open)[0] as number;
      const step = distance[next] as number;
      u[start] = (u[start] as number) + step;
      for (const j of done) {
        u[rowOf[j] as number] = (u[rowOf[j] as number] as number) + step;
        v[j] = (v[j] as number) - step;
      }
      for (let j = 0; j < columns; j++) if (!done.has(j)) distance[j] = (distance[j] as number) - step;
      at = next;
      if (rowOf[at] === -1) break;
      done.add(at);
      row = rowOf[at] as number;
    }
    for (; at !== -1; at = before[at] as number)
      rowOf[at] = before[at] === -1 ? start : (rowOf[before[at] as number] as number);
  }
  return costs.map((_, i) => rowOf.indexOf(i));
}

/** A table from token id to expert, weight 1 (Roller et al. 2021, section 3). */
export function hash(
  tokenIds: Vector,
  { table, experts }: { table: Vector; experts: number },
): ReferenceSparse {
  const ids = pick(table, tokenIds).map((e) => [e]);
  const probabilities = ids.map(([e]) => Array.from({ length: experts }, (_, i) => (i === e ? 1 : 0)));
  return { kind: 'sparse', ids, weights: ids.map(() => [1]), probabilities };
}

/** The k largest of E numbers drawn evenly, weight 1/k (Zuo et al. 2021, section 3). @param drawn [N, E] */
export function random(drawn: Matrix, { k }: { k: number }): ReferenceSparse {
  const even = drawn.map((row) => row.map(() => 1 / row.length));
  return topOf(drawn, k, even, (_, ids) => ids.map(() => 1 / k));
}
