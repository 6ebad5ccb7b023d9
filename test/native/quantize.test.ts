import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { addon, type WeightPart } from '../../src/core/addon.js';
import { QUANTIZER_FORMATS } from '../../src/core/format.js';
import { bfloatBits, halfBits, roundHalf } from '../helpers/interpreter/value.js';
import { codeOf } from '../helpers/native.js';
import { generator } from '../helpers/random.js';

const native = addon();
const runtime = native.createRuntime({ threads: 2 });
const folder = mkdtempSync(join(tmpdir(), 'switchyard-'));
afterAll(() => {
  native.disposeRuntime(runtime);
  rmSync(folder, { recursive: true });
});

type Quantizer = (typeof QUANTIZER_FORMATS)[number];
/** Values that share a scale. */
const groupOf = (format: Quantizer, columns: number): number =>
  format === 'int8' ? columns : Number(/_g(\d+)$/.exec(format)?.[1] ?? 32);
const isInt8 = (format: Quantizer): boolean => format === 'q8_0' || format.startsWith('int8');

interface Source {
  readonly format?: string;
  readonly as?: string;
  readonly parts?: readonly WeightPart[];
}
async function pack(values: Float32Array, rows: number, columns: number, change: Source) {
  const parts = [{ data: values, offset: 0, bytes: values.byteLength }];
  const source = { name: 'w', format: 'f32', experts: 1, rows, columns, parts, ...change };
  return native.packWeight(runtime, source);
}
async function packed(values: Float32Array, rows: number, columns: number, change: Source) {
  const weight = await pack(values, rows, columns, change);
  const read = native.readWeight(weight, 0, 0, rows);
  native.disposeWeight(weight);
  return read;
}

/** Normal numbers (sum of uniform ones), a few larger than the others as in real weights. */
function random(count: number, seed: number, scale = 0.05): Float32Array {
  const next = generator(seed);
  const normal = (): number => Array.from({ length: 8 }, next).reduce((a, b) => a + b, -4) * scale;
  return Float32Array.from({ length: count }, () => (next() < 0.02 ? 3 * normal() : normal()));
}
/** Rows that a format holds exactly: scales in f16, codes of which one in each group is the largest. */
function representable(format: Quantizer, rows: number, columns: number, seed: number): Float32Array {
  const next = generator(seed);
  const out = new Float32Array(rows * columns);
  const group = groupOf(format, columns);
  const [low, high] = isInt8(format) ? [-127, 127] : format === 'q4_1' ? [0, 15] : [-8, 7];
  for (let r = 0; r < rows; r++)
    for (let k = 0; k < columns; k += group) {
      const sign = format === 'q4_1' || isInt8(format) || next() < 0.5 ? 1 : -1;
      const s = sign * roundHalf(0.001 + next() * 0.01);
      const m = format === 'q4_1' ? roundHalf(next() - 0.5) : 0;
      for (let i = k; i < Math.min(k + group, columns); i++)
        out[r * columns + i] = s * (low + Math.floor(next() * (high - low + 1))) + m;
      out[r * columns + k] = s * low + m;
      if (format === 'q4_1') out[r * columns + k + 1] = s * high + m;
    }
  return out;
}

const squares = (got: ArrayLike<number>, want: ArrayLike<number>): number =>
  Array.from(got, (v, i) => (v - (want[i] as number)) ** 2).reduce((a, b) => a + b, 0);
const roundAway = (x: number): number => Math.sign(x) * Math.floor(Math.abs(x) + 0.5);
/** Of the values of one group, what a plain definition in float64 makes of them. */
function plain(format: Quantizer, x: readonly number[]): number[] {
  const most = x.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a), 0);
  const [low, high] = [Math.min(...x), Math.max(...x)];
  const clamp = (q: number, from: number, to: number): number => Math.min(Math.max(q, from), to);
  if (format === 'q8_0') {
    const d = Math.fround(Math.abs(most) / 127);
    const inverse = Math.fround(1 / d);
    return x.map((v) => roundAway(Math.fround(v * inverse)) * roundHalf(d));
  }
  if (isInt8(format)) {
    const d = Math.abs(most) / 127;
    const s = format === 'int8' ? Math.fround(d) : roundHalf(d);
    return x.map((v) => clamp(Math.round(v / s), -127, 127) * s);
  }
  if (format === 'q4_1') {
    const [s, m] = [roundHalf((high - low) / 15), roundHalf(low)];
    return x.map((v) => clamp(Math.round((v - m) / s), 0, 15) * s + m);
  }
  const s = roundHalf(most / -8);
  return x.map((v) => clamp(Math.round(v / s), -8, 7) * s);
}
function plainRows(format: Quantizer, values: Float32Array, rows: number, columns: number): number[] {
  const group = groupOf(format, columns);
  const out: number[] = [];
  for (let r = 0; r < rows; r++)
    for (let k = 0; k < columns; k += group) {
      const end = Math.min(k + group, columns);
      out.push(...plain(format, [...values.subarray(r * columns + k, r * columns + end)]));
    }
  return out;
}

/** Not a multiple of 64 or of 128, and the last panel not full. */
const [rows, columns] = [19, 416];

describe.each(QUANTIZER_FORMATS)('quantising to %s', (format) => {
  const values = random(rows * columns, 3);

  it('is what its definition says, or better', async () => {
    const [got, want] = [
      await packed(values, rows, columns, { as: format }),
      plainRows(format, values, rows, columns),
    ];
    const error = squares(got, values);
    if (isInt8(format)) {
      const differ = got.filter((v, i) => Math.abs(v - (want[i] as number)) > 1e-6 * Math.abs(v));
      // halves may fall to either side
      expect(differ.length).toBeLessThan(format === 'q8_0' ? 1 : 3);
      expect(error).toBeCloseTo(squares(want, values), 8);
    } else {
      // the search gains; by how much was measured: 5 to 15 %
      expect(error).toBeLessThan(0.97 * squares(want, values));
    }
    const size = squares(values, new Float32Array(values.length));
    expect(Math.sqrt(error / size)).toBeLessThan(isInt8(format) ? 0.012 : 0.15);
  });

  it('no step of another size is much better for a group', async () => {
    if (isInt8(format) || format === 'q4_1') return;
    const n = groupOf(format, columns);
    const group = values.slice(0, n);
    const error = squares(await packed(group, 1, n, { as: format }), group);
    const most = Math.max(...group.map(Math.abs));
    let best = Infinity;
    for (let s = most / 12; s < most / 5; s += most / 3000)
      for (const sign of [-1, 1]) {
        const step = sign * s;
        const rounded = group.map((v) => Math.min(Math.max(Math.round(v / step), -8), 7) * step);
        best = Math.min(best, squares(rounded, group));
      }
    expect(error).toBeLessThan(1.12 * best);
  });

  it('gives back what the format holds', async () => {
    const exact = representable(format, rows, columns, 5);
    const got = await packed(exact, rows, columns, { as: format });
    got.forEach((v, i) => {
      const want = exact[i] as number;
      // a scale in f32 is rounded by its division
      if (Math.abs(v - want) > (format === 'int8' ? 2e-7 * Math.abs(want) : 0))
        expect({ i, v }).toEqual({ i, v: want });
    });
  });

  it('takes every stored format by its values', async () => {
    for (const [stored, bits] of [
      ['f16', halfBits],
      ['bf16', bfloatBits],
    ] as const) {
      const data = Uint16Array.from(values, bits);
      const parts = [{ data, offset: 0, bytes: data.byteLength }];
      const decoded = await packed(values, rows, columns, { format: stored, parts });
      const got = await packed(values, rows, columns, { format: stored, parts, as: format });
      expect(got).toEqual(await packed(decoded, rows, columns, { as: format }));
    }
    for (const [stored, bytes] of [
      ['q4_1', 20],
      ['q5_0', 22],
    ] as const) {
      const next = generator(9);
      const data = Uint8Array.from({ length: ((rows * columns) / 32) * bytes }, () => next() * 256);
      for (let at = 0; at < data.length; at += bytes) data.set([0x10, 0x28, 0x11, 0x24], at);
      const parts = [{ data, offset: 0, bytes: data.byteLength }];
      const decoded = await packed(values, rows, columns, { format: stored, parts });
      const got = await packed(values, rows, columns, { format: stored, parts, as: format });
      // what is stored in the format already stays as it is
      const want = stored === format ? decoded : await packed(decoded, rows, columns, { as: format });
      expect(got).toEqual(want);
      expect(await packed(values, rows, columns, { format: stored, parts, as: 'f32' })).toEqual(decoded);
    }
  });

  it('takes rows stored as columns, in memory and in a file', async () => {
    const want = await packed(values, rows, columns, { as: format });
    const turned = new Float32Array(values.length);
    for (let r = 0; r < rows; r++)
      for (let k = 0; k < columns; k++) turned[k * rows + r] = values[r * columns + k] as number;
    const path = join(folder, `${format}.bin`);
    writeFileSync(path, Buffer.concat([Buffer.alloc(4), Buffer.from(turned.buffer)]));
    const place = { bytes: turned.byteLength, rowStride: 1, columnStride: rows };
    for (const part of [
      { ...place, data: turned, offset: 0 },
      { ...place, path, offset: 4 },
    ])
      expect(await packed(values, rows, columns, { as: format, parts: [part] })).toEqual(want);
  });

  it('keeps zeros and values too small for a scale', async () => {
    const small = new Float32Array(2 * 64).fill(1e-38, 64);
    const got = await packed(small, 2, 64, { as: format });
    expect(got.subarray(0, 64).every((v) => v === 0)).toBe(true);
    expect(got.every((v) => Math.abs(v) <= 1e-37)).toBe(true);
  });

  it.each([
    ['NaN', NaN],
    ['an infinity', -Infinity],
    ['a value beyond its scales', 3e38],
  ])('refuses %s and names the tensor', async (what, bad) => {
    const wrong = values.slice();
    wrong[3 * columns + 70] = bad;
    if (format === 'int8' && what.startsWith('a value')) {
      expect((await packed(wrong, rows, columns, { as: format }))[3 * columns + 70]).toBeCloseTo(3e38, -32);
      return;
    }
    expect(await codeOf(() => pack(wrong, rows, columns, { as: format }))).toBe('ERR_FORMAT');
    await expect(pack(wrong, rows, columns, { as: format })).rejects.toThrow(
      /\[weight\] 'w': got .* in expert 0, row 3, column 70, expected finite values that/,
    );
  });

  it('refuses a width that is no multiple of 32', async () => {
    expect(await codeOf(() => pack(values.slice(0, 80), 2, 40, { as: format }))).toBe('ERR_SHAPE');
  });
});

it('a constant is exact in q4_1', async () => {
  const got = await packed(new Float32Array(64).fill(-0.625), 1, 64, { as: 'q4_1' });
  expect(got.every((v) => v === -0.625)).toBe(true);
});

it('formats without a quantiser, and those that no file has, are refused', async () => {
  const values = random(256, 1);
  for (const change of [
    { as: 'q5_0' },
    { as: 'q4_k' },
    { format: 'int8' },
    { format: 'int4_g64', as: 'int8' },
  ])
    expect(await codeOf(() => pack(values, 1, 256, change))).toBe('ERR_FORMAT');
});

describe('weightError', () => {
  const values = random(rows * columns, 4);

  it('sums squares of the differences and of the reference', async () => {
    const [reference, weight] = [
      await pack(values, rows, columns, {}),
      await pack(values, rows, columns, { as: 'int4_g128' }),
    ];
    const sums = await native.weightError(runtime, weight, reference);
    const read = native.readWeight(weight, 0, 0, rows);
    expect(sums.difference).toBeCloseTo(squares(read, values), 8);
    expect(sums.reference).toBeCloseTo(squares(values, new Float32Array(values.length)), 8);
    expect(await native.weightError(runtime, reference, reference)).toEqual({
      difference: 0,
      reference: sums.reference,
    });
    const abort = native.createAbort();
    native.abort(abort);
    expect(await codeOf(() => native.weightError(runtime, weight, reference, abort))).toBe('ERR_ABORTED');
  });

  it('refuses other sizes', async () => {
    const [a, b] = [await pack(values, rows, columns, {}), await pack(values, 2 * rows, columns / 2, {})];
    expect(await codeOf(() => native.weightError(runtime, a, b))).toBe('ERR_SHAPE');
  });
});
