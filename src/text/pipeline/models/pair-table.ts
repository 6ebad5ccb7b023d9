/** (left, right) → two integers, such as ids → rank and merged id: open addressing over one array. */
export class PairTable {
  /** Rows of left, right, rank, merged; left is -1 in a free row. */
  readonly #rows: Int32Array;
  readonly #mask: number;

  /** @param most pairs that will be set */
  constructor(most: number) {
    let size = 16;
    while (size < 2 * most) size *= 2;
    this.#mask = size - 1;
    this.#rows = new Int32Array(4 * size).fill(-1);
  }

  /** A pair set twice keeps the later rank, as in the reference. */
  set(left: number, right: number, rank: number, merged: number): void {
    this.#rows.set([left, right, rank, merged], this.#place(left, right));
  }

  /** A handle for `rank` and `merged`, or -1. */
  find(left: number, right: number): number {
    const at = this.#place(left, right);
    return this.#rows[at] < 0 ? -1 : at;
  }

  rank(handle: number): number {
    return this.#rows[handle + 2];
  }

  merged(handle: number): number {
    return this.#rows[handle + 3];
  }

  #place(left: number, right: number): number {
    const rows = this.#rows;
    let hash = Math.imul(left, 0x9e3779b1) ^ Math.imul(right, 0x85ebca6b);
    hash ^= hash >>> 15;
    for (let slot = hash & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const at = 4 * slot;
      if (rows[at] < 0 || (rows[at] === left && rows[at + 1] === right)) return at;
    }
  }
}
