/**
 * Every sampler in plain float64 loops, written from its paper: what the native chain is compared with. Scores of one row in,
 * scores out; -Infinity: removed.
 */
import { philox } from './interpreter/random.js';

export interface ReferenceRow {
  scores: number[];
  readonly history: readonly number[];
  readonly seed: number;
  readonly step: number;
}

const alive = (scores: readonly number[]): number[] => scores.flatMap((s, i) => (s > -Infinity ? [i] : []));
const largest = (scores: readonly number[]): number => scores.reduce((a, b) => Math.max(a, b), -Infinity);

export function probabilities(scores: readonly number[]): number[] {
  const top = largest(scores);
  const weights = scores.map((s) => Math.exp(s - top));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / total);
}

export function entropy(p: readonly number[]): number {
  return -p.reduce((sum, x) => sum + (x > 0 ? x * Math.log(x) : 0), 0);
}

/** Indices of what is left, by falling value, ties to the lower index. */
const falling = (values: readonly number[], among: readonly number[]): number[] =>
  [...among].sort((i, j) => (values[j] as number) - (values[i] as number) || i - j);

const keep = (scores: readonly number[], ids: Iterable<number>): number[] => {
  const kept = new Set(ids);
  return scores.map((s, i) => (kept.has(i) ? s : -Infinity));
};

/** Two uniform numbers of 53 bits would be one: Philox gives two words for each. */
export function uniform(counter: bigint, seed: number): number {
  const [a, b] = philox(counter, BigInt(seed)) as [number, number];
  return Number(((BigInt(a) << 32n) | BigInt(b)) >> 11n) * 2 ** -53;
}

/** The first index, in vocabulary order, at which the running sum of probabilities exceeds u. */
export function inverseCdf(p: readonly number[], u: number): number {
  const total = p.reduce((a, b) => a + b, 0);
  let sum = 0;
  let last = 0;
  for (const [i, x] of p.entries()) {
    if (x === 0) continue;
    sum += x;
    last = i;
    if (sum > u * total) return i;
  }
  return last;
}

export const reference = {
  greedy({ scores }: ReferenceRow): number[] {
    return keep(scores, falling(scores, alive(scores)).slice(0, 1));
  },
  temperature: ({ scores }: ReferenceRow, t: number): number[] => scores.map((s) => s / Math.fround(t)),
  topK({ scores }: ReferenceRow, k: number): number[] {
    const order = falling(scores, alive(scores));
    const limit = scores[order[Math.min(k, order.length) - 1] as number] as number;
    return scores.map((s) => (s >= limit ? s : -Infinity));
  },
  topP({ scores }: ReferenceRow, p: number): number[] {
    const probs = probabilities(scores);
    const kept: number[] = [];
    let sum = 0;
    for (const i of falling(scores, alive(scores))) {
      if (kept.length > 0 && sum >= p) break;
      kept.push(i);
      sum += probs[i] as number;
    }
    return keep(scores, kept);
  },
  minP({ scores }: ReferenceRow, p: number): number[] {
    const probs = probabilities(scores);
    const limit = p * largest(probs);
    return scores.map((s, i) => ((probs[i] as number) >= limit ? s : -Infinity));
  },
  typical({ scores }: ReferenceRow, mass: number): number[] {
    const probs = probabilities(scores);
    const h = entropy(probs);
    const distance = probs.map((p) => Math.abs(-Math.log(p) - h));
    let sum = 0;
    let limit = Infinity;
    for (const i of [...alive(scores)].sort((a, b) => (distance[a] as number) - (distance[b] as number))) {
      sum += probs[i] as number;
      limit = distance[i] as number;
      if (sum >= mass) break;
    }
    return scores.map((s, i) => ((distance[i] as number) <= limit * (1 + 1e-7) ? s : -Infinity));
  },
  tailFree({ scores }: ReferenceRow, z: number): number[] {
    const probs = probabilities(scores);
    const order = falling(scores, alive(scores));
    if (order.length < 3) return scores;
    const p = order.map((i) => probs[i] as number);
    const first = p.slice(0, -1).map((x, i) => x - (p[i + 1] as number));
    const second = first.slice(0, -1).map((x, i) => Math.abs(x - (first[i + 1] as number)));
    const total = second.reduce((a, b) => a + b, 0);
    if (total === 0) return scores;
    let sum = 0;
    const cut = second.findIndex((d) => {
      sum += d / total;
      return sum > z;
    });
    return keep(scores, order.slice(0, cut < 0 ? order.length - 1 : cut + 1));
  },
  epsilon({ scores }: ReferenceRow, e: number): number[] {
    const probs = probabilities(scores);
    const top = largest(scores);
    return scores.map((s, i) => ((probs[i] as number) >= e || s === top ? s : -Infinity));
  },
  eta(row: ReferenceRow, e: number): number[] {
    const h = entropy(probabilities(row.scores));
    return reference.epsilon(row, Math.min(e, Math.sqrt(e) * Math.exp(-h)));
  },
  mirostat: (row: ReferenceRow, mu: number): number[] => reference.epsilon(row, 2 ** -mu),
  xtc(row: ReferenceRow, threshold: number, probability: number, stream: number): number[] {
    const { scores, seed, step } = row;
    if (uniform((BigInt(stream) << 32n) | BigInt(step), seed) >= probability) return scores;
    const probs = probabilities(scores);
    const tops = falling(
      scores,
      alive(scores).filter((i) => (probs[i] as number) >= threshold),
    );
    const gone = new Set(tops.slice(0, -1));
    return scores.map((s, i) => (gone.has(i) ? -Infinity : s));
  },
  repetitionPenalty({ scores, history }: ReferenceRow, penalty: number, from: number): number[] {
    const seen = new Set(history.slice(from));
    return scores.map((s, i) => (seen.has(i) ? (s < 0 ? s * penalty : s / penalty) : s));
  },
  countPenalty(
    { scores, history }: ReferenceRow,
    frequency: number,
    presence: number,
    from: number,
  ): number[] {
    const counts = scores.map(() => 0);
    for (const id of history.slice(from)) if (id in counts) counts[id] = (counts[id] as number) + 1;
    return scores.map((s, i) => s - (counts[i] as number) * frequency - (counts[i] ? presence : 0));
  },
  dry(
    { scores, history }: ReferenceRow,
    multiplier: number,
    base: number,
    allowed: number,
    from: number,
    breakers: readonly number[],
  ): number[] {
    const ids = history.slice(from);
    const longest = new Map<number, number>();
    for (let end = 0; end < ids.length - 1; end++) {
      let length = 0;
      while (length <= end) {
        const token = ids[end - length] as number;
        if (token !== ids[ids.length - 1 - length] || breakers.includes(token)) break;
        length++;
      }
      const next = ids[end + 1] as number;
      if (!breakers.includes(next)) longest.set(next, Math.max(longest.get(next) ?? 0, length));
    }
    return scores.map((s, i) => {
      const length = longest.get(i) ?? 0;
      return length >= allowed ? s - multiplier * base ** (length - allowed) : s;
    });
  },
  noRepeatNgram({ scores, history }: ReferenceRow, n: number): number[] {
    const end = history.slice(history.length - (n - 1), history.length).join();
    const banned = new Set<number>();
    for (let i = 0; i + n <= history.length; i++)
      if (history.slice(i, i + n - 1).join() === end) banned.add(history[i + n - 1] as number);
    return scores.map((s, i) => (banned.has(i) ? -Infinity : s));
  },
  tokenBias({ scores }: ReferenceRow, pairs: readonly (readonly [number, number])[]): number[] {
    const out = [...scores];
    for (const [id, bias] of pairs) if (id in out) out[id] = (out[id] as number) + bias;
    return out;
  },
  sequenceBias(
    { scores, history }: ReferenceRow,
    sequences: readonly (readonly [readonly number[], number])[],
  ): number[] {
    const out = [...scores];
    for (const [ids, bias] of sequences) {
      const before = ids.slice(0, -1);
      const last = ids.at(-1) as number;
      const end = history.slice(Math.max(0, history.length - before.length));
      if (last in out && before.join() === (before.length === 0 ? '' : end.join()))
        out[last] = (out[last] as number) + bias;
    }
    return out;
  },
  tokenMask: ({ scores }: ReferenceRow, allowed: (id: number) => boolean): number[] =>
    scores.map((s, i) => (allowed(i) ? s : -Infinity)),
  forcedTokens: ({ scores }: ReferenceRow, ids: readonly number[]): number[] =>
    scores.map((_, i) => (ids.includes(i) ? 0 : -Infinity)),
};
