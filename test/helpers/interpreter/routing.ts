/** Reference of what stands between router logits and experts: plans and assignments. */
import type { Rules } from './rule.js';

export const ROUTING_RULES: Rules = {
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
