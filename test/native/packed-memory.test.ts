import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { addon as load, type NativeWeight } from '../../src/core/addon.js';

const addon = load();
const runtime = addon.createRuntime({ threads: 2 });
afterAll(() => addon.disposeRuntime(runtime));

/** A weight [rows, 64] of f32 whose values are all `value`. */
const pack = (value: number, rows: number): Promise<NativeWeight> => {
  const data = new Float32Array(rows * 64).fill(value);
  const parts = [{ data, offset: 0, bytes: data.byteLength }];
  return addon.packWeight(runtime, { format: 'f32', experts: 1, rows, columns: 64, parts });
};
const holds = (weight: NativeWeight, value: number, rows: number): boolean =>
  addon.readWeight(weight, 0, 0, rows).every((v) => v === value);

describe('memory that small weights share', () => {
  it('keeps each weight apart, through any order of disposal and reuse', async () => {
    const live = new Map<NativeWeight, { value: number; rows: number }>();
    let random = 1;
    for (let i = 1; i <= 300; i++) {
      random = (random * 1103515245 + 12345) % 2 ** 31;
      const rows = 1 + (random % 700); // with and without whole pages inside
      live.set(await pack(i, rows), { value: i, rows });
      if (random % 3 === 0) continue;
      // the newest, whose place is taken again, or one in the middle, whose pages go back
      const at = random % 2 === 0 ? live.size - 1 : random % live.size;
      const gone = [...live.keys()][at] as NativeWeight;
      addon.disposeWeight(gone);
      live.delete(gone);
    }
    expect(live.size).toBeGreaterThan(50);
    for (const [weight, { value, rows }] of live) expect(holds(weight, value, rows)).toBe(true);
    for (const weight of live.keys()) addon.disposeWeight(weight);
  });

  it.skipIf(process.platform !== 'linux')('gives memory back while neighbours live on', async () => {
    const resident = (): number => {
      const [, kib] = /VmRSS:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8')) as RegExpExecArray;
      return Number(kib) / 1024;
    };
    const first = await pack(1, 16);
    const before = resident();
    for (let round = 0; round < 40; round++) {
      const big = await pack(2, 16384); // 4 MiB
      const behind = await pack(3, 16);
      addon.disposeWeight(big);
      addon.disposeWeight(behind);
    }
    // 160 MiB went through
    expect(resident() - before).toBeLessThan(64);
    expect(holds(first, 1, 16)).toBe(true);
    addon.disposeWeight(first);
  });
});
