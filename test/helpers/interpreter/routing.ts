/** Reference of what stands between router logits and experts: plans and assignments. */
import type { Rules } from './rule.js';

/**
 * The column of each row in the assignment of least cost, every column used at most once: the Hungarian method with
 * potentials, O(rows² · columns) (Kuhn 1955, Munkres 1957).
 */
export function cheapestColumns(
  rows: number,
  columns: number,
  cost: (r: number, c: number) => number,
): number[] {
  // Row and column 0 stand for none.
  const rowPotential = new Array<number>(rows + 1).fill(0);
  const columnPotential = new Array<number>(columns + 1).fill(0);
  const rowOf = new Array<number>(columns + 1).fill(0);
  for (let row = 1; row <= rows; row++) {
    const slack = new Array<number>(columns + 1).fill(Infinity);
    const before = new Array<number>(columns + 1).fill(0);
    const used = new Set<number>();
    rowOf[0] = row;
    let at = 0;
    do {
      used.add(at);
      const r = rowOf[at] as number;
      let next = 0;
      for (let c = 1; c <= columns; c++) {
        if (used.has(c)) continue;
        const reduced = cost(r - 1, c - 1) - (rowPotential[r] as number) - (columnPotential[c] as number);
        if (reduced < (slack[c] as number)) {
          slack[c] = reduced;
          before[c] = at;
        }
        if (next === 0 || (slack[c] as number) < (slack[next] as number)) next = c;
      }
      const step = slack[next] as number;
      for (let c = 0; c <= columns; c++) {
        if (used.has(c)) {
          rowPotential[rowOf[c] as number] += step;
          columnPotential[c] -= step;
        } else slack[c] -= step;
      }
      at = next;
    } while (rowOf[at] !== 0);
    while (at !== 0) {
      const previous = before[at] as number;
      rowOf[at] = rowOf[previous] as number;
      at = previous;
    }
  }
  const result = new Array<number>(rows).fill(-1);
  for (let c = 1; c <= columns; c++) if (rowOf[c] !== 0) result[(rowOf[c] as number) - 1] = c - 1;
  return result;
}

export const ROUTING_RULES: Rules = {
  checked_logits({ x }) {
    return [x(0).data.slice()];
  },
  moe_capacity({ x, optional, number }) {
    const [n, m] = x(0).shape as [number, number];
    const [k, size, nextBest] = [number('k'), number('group'), number('overflow') === 1];
    const order = optional(1);
    const y = new Float64Array(n * k).fill(-1);
    for (let first = 0; first < n; first += size) {
      const room = new Array<number>(number('experts')).fill(number('capacity'));
      /** The token takes expert e as its choice number `slot`, if it can. */
      const take = (token: number, slot: number, e: number): boolean => {
        if (e < 0 || room[e] === 0) return false;
        room[e]--;
        y[token * k + slot] = e;
        return true;
      };
      const served = Array.from({ length: size }, (_, i) => first + (order ? order.data[first + i] : i));
      const ranking = (token: number): number[] => [...x(0).data.subarray(token * m, (token + 1) * m)];
      if (nextBest)
        for (const token of served) {
          let slot = 0;
          for (const e of new Set(ranking(token))) if (slot < k && take(token, slot, e)) slot++;
        }
      else
        for (let slot = 0; slot < k; slot++)
          for (const token of served) take(token, slot, ranking(token)[slot] as number);
    }
    return [y];
  },
  balanced_assignment({ x, number }) {
    // Each place of an expert is a column of its own.
    const [n, experts] = x(0).shape as [number, number];
    const places = Math.min(number('capacity'), n);
    const cost = (token: number, place: number): number =>
      -x(0).data[token * experts + Math.floor(place / places)];
    return [Float64Array.from(cheapestColumns(n, experts * places, cost), (p) => Math.floor(p / places))];
  },
  moe_plan({ x, number }) {
    const ids = x(0);
    const k = ids.shape[1] as number;
    const experts = number('experts');
    const offsets = new Float64Array(experts + 1);
    const rowToken = new Float64Array(number('rows')).fill(-1);
    const slotRow = new Float64Array(ids.data.length).fill(-1);
    let row = 0;
    for (let e = 0; e < experts; e++) {
      ids.data.forEach((id, slot) => {
        if (id !== e) return;
        rowToken[row] = Math.floor(slot / k);
        slotRow[slot] = row++;
      });
      offsets[e + 1] = row;
    }
    return [offsets, rowToken, slotRow];
  },
};
