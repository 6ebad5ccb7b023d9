/** Reference of reductions, scans, sort and top-k, gather and scatter. */
import { aroundAxis, sizeOf } from '../../../src/core/shape.js';
import type { Rule, Rules, View } from './rule.js';
import { stored } from './value.js';

/** Runs `f` on every line of x along its axis attribute: get(i) reads, and `at(i, n)` is the place in an output of length n. */
function lines(
  view: View,
  f: (get: (i: number) => number, n: number, at: (i: number, length: number) => number) => void,
): void {
  const x = view.x(0);
  const [outer, n, inner] = aroundAxis(x.shape, view.number('axis'));
  for (let o = 0; o < outer; o++)
    for (let j = 0; j < inner; j++)
      f(
        (i) => x.data[(o * n + i) * inner + j],
        n,
        (i, length) => (o * length + i) * inner + j,
      );
}

const reduction =
  (start: number, step: (total: number, x: number) => number): Rule =>
  (view) => {
    const y = new Float64Array(sizeOf(view.out(0).shape));
    lines(view, (get, n, at) => {
      let total = start;
      for (let i = 0; i < n; i++) total = step(total, get(i));
      y[at(0, 1)] = stored(view.out(0).dtype, total);
    });
    return [y];
  };

/** -1 if a comes before b: by value, NaN last, equal values in their order. */
function order(a: number, b: number, descending: boolean): number {
  if (Number.isNaN(a) || Number.isNaN(b)) return Number(Number.isNaN(a)) - Number(Number.isNaN(b));
  return a === b ? 0 : a < b === descending ? 1 : -1;
}

function sorted(view: View, length: number, descending: boolean): Float64Array[] {
  const x = view.x(0);
  const n = x.shape[x.shape.length - 1] as number;
  const rows = n === 0 ? 0 : x.data.length / n;
  const values = new Float64Array(rows * length);
  const indices = new Float64Array(rows * length);
  for (let r = 0; r < rows; r++) {
    const row = x.data.subarray(r * n, (r + 1) * n);
    const ids = Array.from(row, (_, i) => i).sort(
      (i, j) => order(row[i] as number, row[j] as number, descending) || i - j,
    );
    for (let i = 0; i < length; i++) {
      indices[r * length + i] = ids[i];
      values[r * length + i] = row[ids[i]];
    }
  }
  return [values, indices];
}

/** take and scatter along an axis share the walk over ids: f(place in x or y, place in ids, id). */
function along(view: View, length: number, f: (full: number, at: number) => void): void {
  const ids = view.x(1);
  const [outer, m, inner] = aroundAxis(ids.shape, view.number('axis'));
  for (let o = 0; o < outer; o++)
    for (let i = 0; i < m; i++)
      for (let j = 0; j < inner; j++) {
        const at = (o * m + i) * inner + j;
        f((o * length + ids.data[at]) * inner + j, at);
      }
}

export const REDUCE_RULES: Rules = {
  sum: reduction(0, (a, b) => a + b),
  max: reduction(-Infinity, (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.max(a, b))),
  min: reduction(Infinity, (a, b) => (Number.isNaN(a) || Number.isNaN(b) ? NaN : Math.min(a, b))),
  argmax(view) {
    const y = new Float64Array(sizeOf(view.out(0).shape));
    lines(view, (get, n, at) => {
      let best = 0;
      for (let i = 1; i < n; i++) if (get(i) > get(best)) best = i;
      y[at(0, 1)] = best;
    });
    return [y];
  },
  cumsum(view) {
    const y = new Float64Array(view.x(0).data.length);
    lines(view, (get, n, at) => {
      let total = 0;
      for (let step = 0; step < n; step++) {
        const i = view.number('reverse') ? n - 1 - step : step;
        if (view.number('exclusive')) y[at(i, n)] = stored(view.out(0).dtype, total);
        total += get(i);
        if (!view.number('exclusive')) y[at(i, n)] = stored(view.out(0).dtype, total);
      }
    });
    return [y];
  },
  sort: (view) => {
    const shape = view.x(0).shape;
    return sorted(view, shape[shape.length - 1] as number, view.number('descending') === 1);
  },
  top_k: (view) => sorted(view, view.number('k'), true),
  take_rows(view) {
    const [x, ids] = [view.x(0), view.x(1)];
    const inner = sizeOf(x.shape.slice(1));
    const y = new Float64Array(ids.data.length * inner);
    ids.data.forEach((id, r) => {
      if (id >= 0) y.set(x.data.subarray(id * inner, (id + 1) * inner), r * inner);
    });
    return [y];
  },
  scatter_add_rows(view) {
    const [x, ids] = [view.x(0), view.x(1)];
    const inner = sizeOf(x.shape.slice(1));
    const y = new Float64Array(sizeOf(view.out(0).shape));
    ids.data.forEach((id, r) => {
      if (id >= 0) for (let j = 0; j < inner; j++) y[id * inner + j] += x.data[r * inner + j];
    });
    return [y];
  },
  take_along(view) {
    const x = view.x(0);
    const y = new Float64Array(view.x(1).data.length);
    along(view, x.shape[view.number('axis')] as number, (full, at) => {
      y[at] = x.data[full];
    });
    return [y];
  },
  scatter_add_along(view) {
    const x = view.x(0);
    const y = new Float64Array(sizeOf(view.out(0).shape));
    along(view, view.number('size'), (full, at) => {
      y[full] += x.data[at];
    });
    return [y];
  },
};
