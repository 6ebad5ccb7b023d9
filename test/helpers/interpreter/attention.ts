/** Reference of rope tables, the paged cache and attention: plain loops over what each query sees. */
import type { Rules, View } from './rule.js';
import { stored, type Value } from './value.js';

interface Keys {
  /** Keys of a sequence. */
  length(s: number): number;
  /** First element of the head's row of key or value at a position. */
  k(s: number, position: number, group: number): Float64Array;
  v(s: number, position: number, group: number): Float64Array;
}

function attend(
  view: View,
  q: Value,
  groups: number,
  cv: number,
  offsets: Value,
  keys: Keys,
  prefix: Value | null,
): Float64Array {
  const [n, heads, c] = q.shape as [number, number, number];
  const y = new Float64Array(n * heads * cv);
  const [scale, window] = [view.number('scale'), view.number('window')];
  for (let s = 0; s + 1 < offsets.data.length; s++) {
    const [first, end] = [offsets.data[s] as number, offsets.data[s + 1] as number];
    const length = keys.length(s);
    for (let row = first; row < end; row++) {
      const at = length - (end - first) + (row - first);
      for (let h = 0; h < heads; h++) {
        const g = Math.floor(h / (heads / groups));
        const query = q.data.subarray((row * heads + h) * c, (row * heads + h + 1) * c);
        const seen: number[] = [];
        for (let p = 0; p < length; p++) {
          const causal = !view.number('causal') || p <= at;
          const near = window === 0 || p > at - window;
          if ((causal && near) || (prefix && p < prefix.data[s])) seen.push(p);
        }
        const scores = seen.map((p) => scale * keys.k(s, p, g).reduce((sum, x, i) => sum + x * query[i], 0));
        const top = Math.max(...scores);
        const weights = scores.map((x) => Math.exp(x - top));
        const total = weights.reduce((a, b) => a + b, 0);
        seen.forEach((p, i) => {
          const value = keys.v(s, p, g);
          for (let j = 0; j < cv; j++)
            y[(row * heads + h) * cv + j] += ((weights[i] as number) / total) * value[j];
        });
      }
    }
  }
  return y;
}

/** `attention` without its twin: what the twin is compared with. */
export function plainAttention(view: View): Float64Array[] {
  const [q, k, v, offsets, keyOffsets] = [0, 1, 2, 3, 4].map((i) => view.x(i)) as [
    Value,
    Value,
    Value,
    Value,
    Value,
  ];
  const row = (t: Value, s: number, p: number, g: number): Float64Array => {
    const [, heads, c] = t.shape as [number, number, number];
    const at = ((keyOffsets.data[s] as number) + p) * heads + g;
    return t.data.subarray(at * c, (at + 1) * c);
  };
  const keys: Keys = {
    length: (s) => (keyOffsets.data[s + 1] as number) - (keyOffsets.data[s] as number),
    k: (s, p, g) => row(k, s, p, g),
    v: (s, p, g) => row(v, s, p, g),
  };
  return [attend(view, q, k.shape[1] as number, v.shape[2] as number, offsets, keys, view.optional(5))];
}

export const ATTENTION_RULES: Rules = {
  rope_table({ x, number }) {
    const [positions, frequencies] = [x(0), x(1)];
    const half = frequencies.data.length;
    const cos = new Float64Array(positions.data.length * half);
    const sin = new Float64Array(positions.data.length * half);
    positions.data.forEach((p, i) => {
      frequencies.data.forEach((f, j) => {
        const angle = Math.fround(p * f); // models are trained with angles in f32
        cos[i * half + j] = Math.cos(angle) * number('scale');
        sin[i * half + j] = Math.sin(angle) * number('scale');
      });
    });
    return [cos, sin];
  },
  paged_attention(view) {
    const [q, k, v, offsets, lengths, table] = [0, 1, 2, 3, 4, 5].map((i) => view.x(i)) as [
      Value,
      Value,
      Value,
      Value,
      Value,
      Value,
    ];
    const row = (t: Value, s: number, p: number, g: number): Float64Array => {
      const [, heads, block, c] = t.shape as [number, number, number, number];
      const id = table.data[s * (table.shape[1] as number) + Math.floor(p / block)] as number;
      const at = (id * heads + g) * block + (p % block);
      return t.data.subarray(at * c, (at + 1) * c);
    };
    const keys: Keys = {
      length: (s) => lengths.data[s] as number,
      k: (s, p, g) => row(k, s, p, g),
      v: (s, p, g) => row(v, s, p, g),
    };
    return [attend(view, q, k.shape[1] as number, v.shape[3] as number, offsets, keys, view.optional(6))];
  },
  kv_write({ x, out }) {
    const [cache, rows, slots] = [x(0), x(1), x(2)];
    const [, groups, block, c] = cache.shape as [number, number, number, number];
    const y = cache.data.slice();
    slots.data.forEach((slot, i) => {
      if (slot < 0) return;
      for (let g = 0; g < groups; g++)
        for (let j = 0; j < c; j++) {
          const at = ((Math.floor(slot / block) * groups + g) * block + (slot % block)) * c + j;
          y[at] = stored(out(0).dtype, rows.data[(i * groups + g) * c + j] as number);
        }
    });
    return [y];
  },
};
