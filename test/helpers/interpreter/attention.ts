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
  more: number,
): Float64Array {
  const [prefix, slopes, sinks, bias] = [0, 1, 2, 3].map((i) => view.optional(more + i));
  const [cap, left] = [view.number('softcap'), view.number('left')];
  const changed = (score: number, h: number, distance: number): number => {
    let s = cap > 0 ? cap * Math.tanh(score / cap) : score;
    if (slopes) s += (slopes.data[h] as number) * distance;
    if (!bias) return s;
    const entries = bias.shape[1] as number;
    return s + (bias.data[h * entries + Math.min(Math.max(distance + left, 0), entries - 1)] as number);
  };
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
        const scores = seen.map((p) => {
          const product = keys.k(s, p, g).reduce((sum, x, i) => sum + x * query[i], 0);
          return changed(scale * product, h, p - at);
        });
        const sink = sinks ? (sinks.data[h] as number) : Number.NEGATIVE_INFINITY;
        const top = Math.max(sink, ...scores);
        const weights = scores.map((x) => Math.exp(x - top));
        const total = weights.reduce((a, b) => a + b, sinks ? Math.exp(sink - top) : 0);
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
  return [attend(view, q, k.shape[1] as number, v.shape[2] as number, offsets, keys, 5)];
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
    const [q, k, offsets, lengths, table] = [0, 1, 3, 4, 5].map((i) => view.x(i)) as [
      Value,
      Value,
      Value,
      Value,
      Value,
    ];
    const v = view.optional(2);
    const block = k.shape[3] as number;
    const cv = v ? (v.shape[3] as number) - (v.dtype === 'u8' ? 4 : 0) : view.number('values');
    const row = (t: Value, channels: boolean, s: number, p: number, g: number): Float64Array => {
      const [, heads, rows, columns] = t.shape as [number, number, number, number];
      const id = table.data[s * (table.shape[1] as number) + Math.floor(p / block)] as number;
      const page = t.data.subarray((id * heads + g) * rows * columns, (id * heads + g + 1) * rows * columns);
      const [c, place] = [channels ? (q.shape[2] as number) : cv, p % block];
      const at = (i: number): number => (channels ? i * block + place : place * c + i);
      const values = Float64Array.from({ length: c }, (_, i) => page[at(i)] as number);
      if (t.dtype !== 'u8') return values;
      const scale = Uint8Array.from(page.subarray(c * block + 4 * place, c * block + 4 * place + 4));
      const factor = new Float32Array(scale.buffer)[0] as number;
      return values.map((code) => factor * (code > 127 ? code - 256 : code));
    };
    const keys: Keys = {
      length: (s) => lengths.data[s] as number,
      k: (s, p, g) => row(k, true, s, p, g),
      v: (s, p, g) => (v ? row(v, false, s, p, g) : row(k, true, s, p, g)),
    };
    return [attend(view, q, k.shape[1] as number, cv, offsets, keys, 6)];
  },
  kv_write({ x, out, number }) {
    const [cache, rows, slots] = [x(0), x(1), x(2)];
    const [, groups, a, b] = cache.shape as [number, number, number, number];
    const c = rows.shape[2] as number;
    const size = number('transpose') ? b : a;
    const y = cache.data.slice();
    slots.data.forEach((slot, i) => {
      if (slot < 0) return;
      const place = slot % size;
      for (let g = 0; g < groups; g++) {
        const page = (Math.floor(slot / size) * groups + g) * a * b;
        const row = rows.data.subarray((i * groups + g) * c, (i * groups + g + 1) * c);
        const values = cache.dtype === 'u8' ? codesOf(row) : row.map((v) => stored(out(0).dtype, v));
        for (let j = 0; j < c; j++)
          y[page + (number('transpose') ? j * size + place : place * c + j)] = values[j];
        if (cache.dtype === 'u8') y.set(values.subarray(c), page + size * c + 4 * place);
      }
    });
    return [y];
  },
  kv_copy({ x }) {
    const [cache, pairs] = [x(0), x(1)];
    const y = cache.data.slice();
    const page = y.length / (cache.shape[0] as number);
    for (let i = 0; i < pairs.data.length; i += 2) {
      const [from, to] = [pairs.data[i] as number, pairs.data[i + 1] as number];
      if (from >= 0 && to >= 0) y.copyWithin(to * page, from * page, (from + 1) * page);
    }
    return [y];
  },
};

/** The codes of a row as bytes, and the four of its scale; in f32 as the kernel does, since they are exact. */
function codesOf(row: Float64Array): Float64Array {
  const top = Math.fround(row.reduce((most, v) => Math.max(most, Math.abs(v)), 0));
  const scale = Float32Array.of(top / 127);
  const inverse = Math.fround(127 / top);
  const even = (v: number): number => (Math.abs(v % 1) === 0.5 ? 2 * Math.round(v / 2) : Math.round(v));
  return Float64Array.of(
    ...row.map((v) => even(Math.fround(Math.fround(v) * inverse)) & 255),
    ...new Uint8Array(scale.buffer),
  );
}
