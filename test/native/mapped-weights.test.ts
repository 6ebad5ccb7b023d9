/** openPacked, copyWeight and convertWeight as the addon offers them: what they refuse, and what they give. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { addon as load, type NativeWeight, type PackedSource } from '../../src/core/addon.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { codeOf } from '../helpers/native.js';

const native = load();
const runtime = native.createRuntime({ threads: 2 });
afterAll(() => native.disposeRuntime(runtime));
const folder = temporaryFolder();
const path = join(folder, 'weights.bin');
const [experts, rows, columns] = [3, 20, 32];
const values = Float32Array.from({ length: experts * rows * columns }, (_, i) => Math.sin(i));
let weight: NativeWeight;
let source: PackedSource;

beforeAll(async () => {
  const parts = [{ data: values, offset: 0, bytes: values.byteLength }];
  weight = await native.packWeight(runtime, { format: 'f32', experts, rows, columns, parts });
  const file = Buffer.alloc(4096 + native.weightInfo(weight).bytes);
  file.write('head');
  native.copyWeight(weight, 0, file.subarray(4096));
  writeFileSync(path, file);
  source = {
    path,
    bytes: file.length,
    head: Buffer.from('head'),
    weights: [{ name: 'w', format: 'f32', experts, rows, columns, offset: 4096 }],
  };
});

const all = (w: NativeWeight): number[] =>
  Array.from({ length: native.weightInfo(w).experts }, (_, e) => [
    ...native.readWeight(w, e, 0, rows),
  ]).flat();

describe('a weight of a file', () => {
  it('has the values of the one it was copied from', async () => {
    const [mapped] = (await native.openPacked(runtime, source)) as [NativeWeight];
    expect(all(mapped)).toEqual([...values]);
    expect(native.weightInfo(mapped)).toEqual({
      ...native.weightInfo(weight),
      mapped: process.platform !== 'win32',
    });
    native.disposeWeight(mapped);
  });

  const entry = (change: object) => ({ weights: [{ ...source.weights[0], ...change }] });
  it.each<[string, () => object, string]>([
    ['a longer file', () => ({ bytes: source.bytes + 1 }), 'ERR_IO'],
    ['another head', () => ({ head: Buffer.from('haed') }), 'ERR_IO'],
    ['a head longer than the file', () => ({ head: Buffer.alloc(source.bytes + 1) }), 'ERR_IO'],
    ['no file', () => ({ path: join(folder, 'none') }), 'ERR_IO'],
    ['no bytes', () => ({ bytes: 0 }), 'ERR_OPTION'],
    ['no list', () => ({ weights: 3 }), 'ERR_OPTION'],
    ['an end beyond the file', () => entry({ offset: 8192 }), 'ERR_FORMAT'],
    ['an odd offset', () => entry({ offset: 4 }), 'ERR_FORMAT'],
    ['more rows than bytes', () => entry({ rows: 2000 }), 'ERR_FORMAT'],
    ['2^50 experts', () => entry({ experts: 2 ** 50 }), 'ERR_FORMAT'],
    ['columns of no block', () => entry({ format: 'q8_0', columns: 33 }), 'ERR_SHAPE'],
    ['a format nobody knows', () => entry({ format: 'x' }), 'ERR_OPTION'],
  ])('refuses %s', async (_, change, code) => {
    const before = native.memoryUsage().weights;
    expect(await codeOf(() => native.openPacked(runtime, { ...source, ...change() } as never))).toBe(code);
    expect(native.memoryUsage().weights).toBe(before);
  });

  it('is copied within its bounds', async () => {
    const { bytes } = native.weightInfo(weight);
    const whole = new Uint8Array(bytes);
    native.copyWeight(weight, 0, whole);
    expect(Buffer.from(whole).equals(readFileSync(path).subarray(4096))).toBe(true);
    native.copyWeight(weight, bytes, new Uint8Array(0));
    expect(await codeOf(async () => native.copyWeight(weight, 1, whole))).toBe('ERR_SHAPE');
    expect(await codeOf(async () => native.copyWeight(weight, -1, new Uint8Array(1)))).toBe('ERR_OPTION');
  });

  it('takes the bytes that packedBytes says', async () => {
    expect(native.packedBytes('f32', experts, rows, columns)).toBe(native.weightInfo(weight).bytes);
    expect(await codeOf(async () => native.packedBytes('f32', 2 ** 50, 2 ** 50, 1))).toBe('ERR_SHAPE');
  });
});

describe('converting', () => {
  it('takes the experts of a list, in its order', async () => {
    const some = await native.convertWeight(runtime, weight, 'f32', [2, 0]);
    const expert = (e: number): number[] => [
      ...values.subarray(e * rows * columns, (e + 1) * rows * columns),
    ];
    expect(all(some)).toEqual([...expert(2), ...expert(0)]);
    native.disposeWeight(some);
  });

  it('gives the bits of packing the same values', async () => {
    const parts = [{ data: values, offset: 0, bytes: values.byteLength }];
    for (const as of ['f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'int8', 'int8_g64', 'int4_g128']) {
      const want = await native.packWeight(runtime, { format: 'f32', as, experts, rows, columns, parts });
      const got = await native.convertWeight(runtime, weight, as, [0, 1, 2]);
      const bytes = [want, got].map((w) => {
        const copy = Buffer.alloc(native.weightInfo(w).bytes);
        native.copyWeight(w, 0, copy);
        return copy;
      }) as [Buffer, Buffer];
      expect(bytes[0].equals(bytes[1]), as).toBe(true);
    }
  });

  it.each([
    ['q4_k', [0], 'ERR_SHAPE'],
    ['q5_0', [0], 'ERR_FORMAT'],
    ['f32', [], 'ERR_SHAPE'],
    ['f32', [3], 'ERR_SHAPE'],
    ['f32', [-1], 'ERR_SHAPE'],
    ['x', [0], 'ERR_OPTION'],
  ])('to %s of %j is refused', async (as, list, code) => {
    expect(await codeOf(() => native.convertWeight(runtime, weight, as, list))).toBe(code);
  });
});
