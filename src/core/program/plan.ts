/** Memory plan: intermediates whose lives do not overlap share a place in one arena. */
import type { Instruction, Storage } from './ir.js';

/** Alignment of intermediates in bytes: a cache line and a vector register. */
const ALIGNMENT = 64;
/** Bytes a storage takes in the arena; one without elements still has a place of its own. */
const room = ({ bytes }: Storage): number => Math.ceil(Math.max(1, bytes) / ALIGNMENT) * ALIGNMENT;

/** Gives every arena storage its offset; returns the size of the arena. */
export function planMemory(instructions: readonly Instruction[]): number {
  const live: Storage[] = [];
  instructions.forEach((instruction, i) => {
    for (const value of [...instruction.inputs, ...instruction.outputs]) {
      const s = value?.storage;
      if (s?.kind !== 'arena') continue;
      if (s.first < 0) {
        s.first = i;
        live.push(s);
      }
      s.last = i;
    }
  });
  return place(live);
}

/** Sweeps over time with a list of free ranges; takes the tightest range that fits. */
function place(storages: readonly Storage[]): number {
  let top = 0;
  const free: { offset: number; bytes: number }[] = [];
  const ending = new Map<number, Storage[]>();
  const release = (offset: number, bytes: number): void => {
    let at = 0;
    while (at < free.length && (free[at] as { offset: number }).offset < offset) at++;
    free.splice(at, 0, { offset, bytes });
    const next = free[at + 1];
    if (next && offset + bytes === next.offset) free.splice(at, 2, { offset, bytes: bytes + next.bytes });
    const before = free[at - 1];
    const merged = free[at] as { offset: number; bytes: number };
    if (before && before.offset + before.bytes === merged.offset)
      free.splice(at - 1, 2, { offset: before.offset, bytes: before.bytes + merged.bytes });
  };
  let time = 0;
  for (const s of storages) {
    for (; time < s.first; time++)
      for (const done of ending.get(time) ?? []) release(done.offset, room(done));
    const bytes = room(s);
    let best = -1;
    free.forEach((range, i) => {
      if (range.bytes >= bytes && (best < 0 || range.bytes < (free[best] as { bytes: number }).bytes))
        best = i;
    });
    if (best >= 0) {
      const range = free[best] as { offset: number; bytes: number };
      s.offset = range.offset;
      if (range.bytes === bytes) free.splice(best, 1);
      else free[best] = { offset: range.offset + bytes, bytes: range.bytes - bytes };
    } else {
      const last = free[free.length - 1];
      const grows = last && last.offset + last.bytes === top;
      s.offset = grows ? last.offset : top;
      if (grows) free.pop();
      top = s.offset + bytes;
    }
    const list = ending.get(s.last);
    if (list) list.push(s);
    else ending.set(s.last, [s]);
  }
  return top;
}
