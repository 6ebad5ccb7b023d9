/**
 * The definition of the sparse layer: a plain loop over tokens and experts in float64, written from the papers. It is slow and
 * shares no code with the layer; tests hold it against published results, and the layer against it.
 *
 * route (a policy of reference-gating.ts) → `limited` by capacity → the loop of `referenceLayer`.
 * A matrix is a list of rows, a linear map W [out, in] gives y = W x. Ties go to the lower index everywhere.
 */
export type Vector = readonly number[];
export type Matrix = readonly Vector[];

// ---- numbers ----

export const sumOf = (v: Vector): number => v.reduce((a, b) => a + b, 0);
export const dot = (a: Vector, b: Vector): number => sumOf(a.map((x, i) => x * (b[i] as number)));
export const column = (m: Matrix, j: number): number[] => m.map((row) => row[j] as number);
export const pick = (v: Vector, ids: Vector): number[] => ids.map((i) => v[i] as number);
export const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** e^v_i / Σ e^v; -∞ has no share, and nothing has where all are -∞. */
export function softmax(v: Vector): number[] {
  const largest = Math.max(...v);
  if (largest === Number.NEGATIVE_INFINITY) return v.map(() => 0);
  const powers = v.map((x) => Math.exp(x - largest));
  return powers.map((p) => p / sumOf(powers));
}

/** Indices by falling value. */
export const ranked = (v: Vector): number[] =>
  v
    .map((_, i) => i)
    .sort((a, b) => {
      const [x, y] = [v[a] as number, v[b] as number];
      return y > x ? 1 : y < x ? -1 : a - b;
    });
export const largest = (v: Vector, k: number): number[] => ranked(v).slice(0, k);

/** 2/√π · e^(-x²) · Σ_n 2ⁿ x^(2n+1) / (1·3·…·(2n+1)): all terms have one sign, so nothing cancels. */
export function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

// ---- one expert ----

/** Hendrycks & Gimpel 2016: x Φ(x) and its tanh form; SiLU x σ(x). */
export const activations = {
  relu: (x: number): number => Math.max(0, x),
  silu: (x: number): number => x * sigmoid(x),
  gelu: (x: number): number => 0.5 * x * (1 + erf(x / Math.SQRT2)),
  gelu_tanh: (x: number): number =>
    0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
};
export type ReferenceActivation = keyof typeof activations;

export interface ReferenceExpert {
  /** [F, D]; none: an expert without a gate. */
  gate?: Matrix | null;
  /** [F, D]; none: a linear expert, down alone. */
  up?: Matrix | null;
  /** [D, F] */
  down: Matrix;
  gateBias?: Vector | null;
  upBias?: Vector | null;
  downBias?: Vector | null;
}

/** W x + b */
export const linear = (w: Matrix, x: Vector, b?: Vector | null): number[] =>
  w.map((row, i) => dot(row, x) + (b?.[i] ?? 0));

/** down(act(gate x) · up x), or down(act(up x)) (Shazeer 2020, eq. 5-6), or down x (Jacobs et al. 1991). */
export function referenceExpert(
  expert: ReferenceExpert,
  activation: ReferenceActivation,
  x: Vector,
): number[] {
  const { gate, up, down, gateBias, upBias, downBias } = expert;
  if (!up) return linear(down, x, downBias);
  const act = activations[activation];
  const upper = linear(up, x, upBias);
  const hidden = gate
    ? linear(gate, x, gateBias).map((g, i) => act(g) * (upper[i] as number))
    : upper.map(act);
  return linear(down, hidden, downBias);
}

// ---- what routing decides ----

export interface ReferenceSparse {
  kind: 'sparse';
  /** The experts of each token, best first; -1: none. */
  ids: Matrix;
  /** Beside ids. */
  weights: Matrix;
  /** [N, E] */
  probabilities: Matrix;
  /** What the choice is made from [N, E], where a token may fall back to its next-best expert. */
  preference?: Matrix;
  /** The weights of another choice of experts by token t. */
  weigh?: (t: number, ids: Vector) => number[];
}
export interface ReferenceSoft {
  kind: 'soft';
  /** [N, E·S] each; slot s of expert e is column e·S + s. */
  dispatch: Matrix;
  combine: Matrix;
}
export interface ReferenceMerged {
  kind: 'merged';
  /** [B, E] */
  shares: Matrix;
}
export type ReferenceRouting = ReferenceSparse | ReferenceSoft | ReferenceMerged;

// ---- capacity ----

/** round(k · tokens · factor / E), at least `minimum`: places of an expert (Lepikhin et al. 2020, section 2.2). */
export function referenceCapacity({
  k = 1,
  tokens,
  experts,
  factor,
  rounding = 'ceil',
  minimum = 0,
}: {
  k?: number;
  tokens: number;
  experts: number;
  factor: number;
  rounding?: 'ceil' | 'floor';
  minimum?: number;
}): number {
  return Math.max(minimum, Math[rounding]((k * tokens * factor) / experts));
}

export interface ReferenceLimit {
  /** Places of an expert in each group of tokens. */
  slots: number;
  /** Tokens that share the places. Default: all. */
  group?: number;
  overflow?: 'drop' | 'next-best';
  priority?: 'order' | 'probability';
}

/**
 * The choice that experts with so many places admit. Tokens are served in order, or by falling largest probability (Riquelme et
 * al. 2021, section 4). drop: all first choices, then all second ones, …; where the expert is full the choice becomes -1 and the
 * other weights stay (Lepikhin et al. 2020, alg. 1). next-best: each token in turn walks down its preferences (-∞: never) until it holds k.
 */
export function limited(routing: ReferenceSparse, limit: ReferenceLimit): ReferenceSparse {
  const { ids: wished, probabilities, preference, weigh } = routing;
  const { slots, group = wished.length, overflow = 'drop', priority = 'order' } = limit;
  const ids = wished.map((row) => row.map(() => -1));
  for (let start = 0; start < wished.length; start += group) {
    const best = probabilities.slice(start, start + group).map((p) => Math.max(...p));
    const order = ranked(priority === 'order' ? best.map(() => 0) : best).map((i) => start + i);
    const used = new Map<number, number>();
    const admits = (e: number): boolean => {
      const before = used.get(e) ?? 0;
      if (e === -1 || before >= slots) return false;
      used.set(e, before + 1);
      return true;
    };
    if (overflow === 'drop') {
      const places = Math.max(...order.map((t) => (wished[t] as Vector).length));
      for (let place = 0; place < places; place++)
        for (const t of order) {
          const e = wished[t]?.[place] ?? -1;
          if (admits(e)) (ids[t] as number[])[place] = e;
        }
    } else {
      for (const t of order) {
        const scores = preference?.[t] as Vector;
        const mine = ids[t] as number[];
        let held = 0;
        for (const e of ranked(scores))
          if (held < mine.length && (scores[e] as number) > Number.NEGATIVE_INFINITY && admits(e))
            mine[held++] = e;
      }
    }
  }
  if (overflow === 'drop' || !weigh) return { ...routing, ids };
  // the weights of what a token got; it may hold fewer than k
  const weights = ids.map((row, t) => {
    const got = weigh(
      t,
      row.filter((e) => e !== -1),
    );
    return row.map((_, place) => got[place] ?? 0);
  });
  return { ...routing, ids, weights };
}

// ---- the layer ----

export interface ReferenceLayerOptions {
  experts: readonly ReferenceExpert[];
  activation?: ReferenceActivation;
  /** [E·outputs, D]; none: logits of zeros. */
  router?: Matrix | null;
  routerBias?: Vector | null;
  /** A policy of reference-gating.ts with its options. */
  route: (logits: Matrix) => ReferenceRouting;
  limit?: ReferenceLimit | null;
  /** Equally long ones, for what is routed by sequence. Default 1. */
  sequences?: number;
  /** Met by every token (Dai et al. 2024, DeepSeekMoE, eq. 9). */
  shared?: ReferenceExpert | null;
  /** The shared output is multiplied by sigmoid(x · w) (Qwen2-MoE). */
  sharedGate?: Vector | null;
}

export interface ReferenceRouted {
  logits: Matrix;
  /** Before capacity. */
  wished: ReferenceRouting;
  routing: ReferenceRouting;
}

/** Router, policy, capacity. @param x [N, D] */
export function referenceRoute(x: Matrix, options: ReferenceLayerOptions): ReferenceRouted {
  const { experts, router, routerBias, route, limit } = options;
  const logits = x.map((row) => (router ? linear(router, row, routerBias) : experts.map(() => 0)));
  const wished = route(logits);
  return { logits, wished, routing: limit && wished.kind === 'sparse' ? limited(wished, limit) : wished };
}

/** y(x) = Σ_e weight_e(x) · expert_e(x) (Shazeer et al. 2017, eq. 1). @param x [N, D] */
export function referenceLayer(
  x: Matrix,
  options: ReferenceLayerOptions,
): ReferenceRouted & { output: Matrix } {
  const { experts, activation = 'silu', sequences = 1 } = options;
  const routed = referenceRoute(x, options);
  const { routing } = routed;
  const apply = (e: number, input: Vector): number[] =>
    referenceExpert(experts[e] as ReferenceExpert, activation, input);
  const sequenceOf = (t: number): number => Math.floor((t * sequences) / x.length);
  let mixed: Matrix;
  if (routing.kind === 'sparse') {
    mixed = x.map((row, t) => {
      const y = (experts[0] as ReferenceExpert).down.map(() => 0);
      for (const [place, e] of (routing.ids[t] as Vector).entries()) {
        if (e === -1) continue;
        const weight = routing.weights[t]?.[place] as number;
        for (const [d, value] of apply(e, row).entries()) y[d] = (y[d] as number) + weight * value;
      }
      return y;
    });
  } else if (routing.kind === 'soft') {
    const slots = (routing.combine[0]?.length ?? 0) / experts.length;
    const outputs = Array.from({ length: sequences }, (_, b) => {
      const mine = x.flatMap((_, t) => (sequenceOf(t) === b ? [t] : []));
      return (routing.combine[0] ?? []).map((_, j) => {
        const input = weightedSum(
          pick(column(routing.dispatch, j), mine),
          mine.map((t) => x[t] as Vector),
        );
        return apply(Math.floor(j / slots), input);
      });
    });
    mixed = x.map((_, t) => weightedSum(routing.combine[t] as Vector, outputs[sequenceOf(t)] as Matrix));
  } else {
    const merged = routing.shares.map((share) => mergedExpert(experts, share));
    mixed = x.map((row, t) => referenceExpert(merged[sequenceOf(t)] as ReferenceExpert, activation, row));
  }
  const { shared, sharedGate } = options;
  const output = mixed.map((row, t) => {
    const input = x[t] as Vector;
    if (!shared) return row;
    const factor = sharedGate ? sigmoid(dot(sharedGate, input)) : 1;
    const common = referenceExpert(shared, activation, input);
    return row.map((y, d) => y + factor * (common[d] as number));
  });
  return { ...routed, output };
}

/** Σ_i w_i v_i */
const weightedSum = (w: Vector, vectors: Matrix): number[] =>
  (vectors[0] as Vector).map((_, d) => dot(w, column(vectors, d)));

/** The mean of experts, matrix by matrix (Muqeeth et al. 2023, section 3). */
export function mergedExpert(experts: readonly ReferenceExpert[], share: Vector): ReferenceExpert {
  const vector = (of: (e: ReferenceExpert) => Vector | null | undefined): Vector | null =>
    of(experts[0] as ReferenceExpert)
      ? weightedSum(
          share,
          experts.map((e) => of(e) as Vector),
        )
      : null;
  const matrix = (of: (e: ReferenceExpert) => Matrix | null | undefined): Matrix | null =>
    of(experts[0] as ReferenceExpert)?.map((_, i) => vector((e) => of(e)?.[i]) as Vector) ?? null;
  return {
    gate: matrix((e) => e.gate),
    up: matrix((e) => e.up),
    down: matrix((e) => e.down) as Matrix,
    gateBias: vector((e) => e.gateBias),
    upBias: vector((e) => e.upBias),
    downBias: vector((e) => e.downBias),
  };
}
