/** Reference of `sample`, in float64: penalty, temperature, top k, top p, one Philox draw. */
import { philox } from './random.js';
import type { Rules } from './rule.js';

interface Params {
  temperature: number;
  topK: number;
  topP: number;
  penalty: number;
}

function chosen(scores: readonly number[], p: Params, seed: number, step: number): number {
  const falling = scores
    .map((_, i) => i)
    .sort((i, j) => (scores[j] as number) - (scores[i] as number) || i - j);
  const best = scores[falling[0] as number] as number;
  if (p.temperature === 0) return falling[0] as number;
  const k = p.topK > 0 ? Math.min(p.topK, scores.length) : scores.length;
  const limit = scores[falling[k - 1] as number] as number;
  const weight = (i: number): number => Math.exp(((scores[i] as number) - best) / p.temperature);
  let kept = falling.filter((i) => (scores[i] as number) >= limit); // what equals the k-th stays
  if (p.topP < 1) {
    const target = p.topP * kept.reduce((sum, i) => sum + weight(i), 0);
    let sum = 0;
    const end = kept.findIndex((i) => {
      sum += weight(i);
      return sum >= target;
    });
    kept = kept.slice(0, end < 0 ? kept.length : end + 1);
  }
  kept.sort((i, j) => i - j);
  const [a, b] = philox(BigInt(step), BigInt(seed)) as [number, number];
  const u = ((BigInt(a) << 32n) | BigInt(b)) >> 11n;
  const target = Number(u) * 2 ** -53 * kept.reduce((sum, i) => sum + weight(i), 0);
  let reached = 0;
  for (const i of kept) {
    reached += weight(i);
    if (reached > target) return i;
  }
  return kept[kept.length - 1] as number;
}

export const SAMPLE_RULES: Rules = {
  sample({ x }) {
    const [logits, history, params, seeds] = [x(0), x(1), x(2), x(3)];
    const [rows, v] = logits.shape as [number, number];
    const [length] = history.shape.slice(1) as [number];
    const tokens = new Float64Array(rows);
    const logprobs = new Float64Array(rows);
    for (let r = 0; r < rows; r++) {
      const raw = Array.from(logits.data.subarray(r * v, (r + 1) * v));
      const [temperature, topK, topP, penalty] = params.data.subarray(r * 4, r * 4 + 4) as unknown as [
        number,
        number,
        number,
        number,
      ];
      const seen = new Set(history.data.subarray(r * length, (r + 1) * length));
      const scores = raw.map((s, i) => (seen.has(i) ? (s < 0 ? s * penalty : s / penalty) : s));
      const token = chosen(
        scores,
        { temperature, topK, topP, penalty },
        seeds.data[r * 2] as number,
        seeds.data[r * 2 + 1] as number,
      );
      const top = Math.max(...raw);
      tokens[r] = token;
      logprobs[r] =
        (raw[token] as number) - top - Math.log(raw.reduce((sum, s) => sum + Math.exp(s - top), 0));
    }
    return [tokens, logprobs];
  },
};
