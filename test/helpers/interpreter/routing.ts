/** Reference of what stands between router logits and experts: plans and assignments. */
import type { Rules } from './rule.js';

export const ROUTING_RULES: Rules = {
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
