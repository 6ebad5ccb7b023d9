import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { addon, type NativeWeight, type WeightPart, type WeightSource } from '../../src/core/addon.js';
import { codeOf } from '../helpers/native.js';
import { encodeProgram } from '../helpers/program-builder.js';

const native = addon();
const runtime = native.createRuntime({ threads: 2 });
const folder = mkdtempSync(join(tmpdir(), 'switchyard-'));
afterAll(() => {
  native.disposeRuntime(runtime);
  rmSync(folder, { recursive: true });
});

const [experts, rows, columns] = [2, 5, 8];
const values = Float32Array.from({ length: experts * rows * columns }, (_, i) => i - 20);
const data: WeightPart = { data: values, offset: 0, bytes: values.byteLength };
const dense: WeightSource = { format: 'f32', experts, rows, columns, parts: [data] };
// Given back after each test: a weight left to the garbage collector would go while another test counts bytes.
const packed: NativeWeight[] = [];
const pack = async (change: object = {}): Promise<NativeWeight> => {
  const weight = await native.packWeight(runtime, { ...dense, ...change });
  packed.push(weight);
  return weight;
};
afterEach(() => {
  for (const weight of packed.splice(0)) native.disposeWeight(weight);
});
const all = (weight: NativeWeight) =>
  [0, 1].flatMap((expert) => [...native.readWeight(weight, expert, 0, rows)]);

describe('packWeight', () => {
  it('packs memory, which may change meanwhile', async () => {
    const source = values.slice();
    const packing = pack({ parts: [{ ...data, data: source }] });
    source.fill(0);
    structuredClone(source.buffer, { transfer: [source.buffer] });
    const weight = await packing;
    expect(all(weight)).toEqual([...values]);
    expect([...native.readWeight(weight, 1, 3, 1)]).toEqual([...values.subarray(64, 72)]);
    expect(native.weightInfo(weight)).toMatchObject({ format: 'f32', experts, rows, columns });
  });

  it('packs ranges of files, in parts', async () => {
    const path = join(folder, 'a.bin');
    writeFileSync(path, Buffer.concat([Buffer.alloc(12), Buffer.from(values.buffer)]));
    const first = values.byteLength / 5; // two rows
    const weight = await pack({
      parts: [
        { path, offset: 12, bytes: first },
        { data: new Uint8Array(values.buffer), offset: first, bytes: 4 * first },
      ],
    });
    expect(all(weight)).toEqual([...values]);
  });

  it('packs transposed and interleaved memory, and counts its rows', async () => {
    // [experts, columns, rows · 2]: the even columns of the transpose
    const stored = new Float32Array(experts * columns * rows * 2);
    for (let e = 0; e < experts; e++) {
      for (let n = 0; n < rows; n++) {
        for (let k = 0; k < columns; k++) {
          stored[(e * columns + k) * rows * 2 + n * 2] = values[(e * rows + n) * columns + k];
        }
      }
    }
    const bytes = stored.byteLength / experts;
    const part = { data: stored, bytes, rowStride: 2, columnStride: 2 * rows };
    const weight = await pack({ parts: [0, 1].map((e) => ({ ...part, offset: e * bytes })) });
    expect(all(weight)).toEqual([...values]);
  });

  it('converts floats', async () => {
    const weight = await pack({ as: 'bf16' });
    expect(native.weightInfo(weight).format).toBe('bf16');
    expect(all(weight)).toEqual([...values]); // small integers are exact
  });

  it('stores what it packed, row by row', async () => {
    const weight = await pack();
    const stored = [0, 1].map((expert) => native.storeWeight(weight, expert, 0, rows));
    expect(Buffer.concat(stored).equals(Buffer.from(values.buffer))).toBe(true);
    expect(native.storeWeight(weight, 1, 3, 1)).toEqual(new Uint8Array(values.buffer, 64 * 4, 8 * 4));
    expect(native.storeWeight(weight, 0, 5, 0).length).toBe(0);
    for (const [expert, row, count] of [
      [2, 0, 1],
      [-1, 0, 1],
      [0, 6, 0],
      [0, 4, 2],
      [0, 0, -1],
      [0, 0.5, 1],
    ])
      expect(await codeOf(() => native.storeWeight(weight, expert, row, count))).toMatch(/^ERR_/);
    const int8 = await native.packWeight(runtime, {
      ...dense,
      columns: 32,
      rows: 1,
      experts: 1,
      parts: [{ ...data, bytes: 128 }],
      as: 'int8',
    });
    packed.push(int8);
    expect(await codeOf(() => native.storeWeight(int8, 0, 0, 1))).toBe('ERR_UNSUPPORTED');
  });

  it('aborts', async () => {
    const abort = native.createAbort();
    native.abort(abort);
    expect(await codeOf(() => native.packWeight(runtime, dense, abort))).toBe('ERR_ABORTED');
  });

  it('ends with its runtime', async () => {
    const path = join(folder, 'large.bin');
    writeFileSync(path, '');
    truncateSync(path, 2 ** 31);
    const other = native.createRuntime({ threads: 1 });
    const packing = native.packWeight(other, {
      ...dense,
      experts: 1,
      rows: 2 ** 16,
      columns: 2 ** 13,
      parts: [{ path, offset: 0, bytes: 2 ** 31 }],
    });
    await new Promise((resolve) => setTimeout(resolve, 20));
    native.disposeRuntime(other);
    expect(await codeOf(() => packing)).toBe('ERR_ABORTED');
  });

  const short = join(folder, 'short.bin');
  writeFileSync(short, Buffer.alloc(100));
  const file: WeightPart = { path: short, offset: 0, bytes: values.byteLength };
  it.each([
    ['a format nobody knows', { format: 'q9' }, 'ERR_OPTION'],
    ['no format', { format: undefined }, 'ERR_OPTION'],
    ['a conversion to blocks that nothing makes', { as: 'q4_k' }, 'ERR_FORMAT'],
    ['a quantised format of odd width', { as: 'q4_1' }, 'ERR_SHAPE'],
    ['no experts', { experts: 0 }, 'ERR_OPTION'],
    ['NaN rows', { rows: NaN }, 'ERR_OPTION'],
    ['2^60 columns', { columns: 2 ** 60 }, 'ERR_OPTION'],
    ['too many experts', { experts: 2 ** 40 }, 'ERR_SHAPE'],
    ['a block format of odd width', { format: 'q8_0' }, 'ERR_SHAPE'],
    ['no parts', { parts: [] }, 'ERR_SHAPE'],
    ['parts that are none', { parts: 3 }, 'ERR_OPTION'],
    ['a part that is none', { parts: [3] }, 'ERR_OPTION'],
    ['neither path nor data', { parts: [{ offset: 0, bytes: 4 }] }, 'ERR_OPTION'],
    ['both path and data', { parts: [{ ...data, path: short }] }, 'ERR_OPTION'],
    ['bytes beyond the data', { parts: [{ ...data, offset: 4 }] }, 'ERR_SHAPE'],
    ['a part too short', { parts: [{ ...data, bytes: values.byteLength - 4 }] }, 'ERR_SHAPE'],
    ['a part of no bytes', { parts: [{ ...data, bytes: 0 }] }, 'ERR_SHAPE'],
    ['rows that do not fit', { parts: [{ ...data, rows: 9 }] }, 'ERR_SHAPE'],
    [
      'strides beyond the data',
      { parts: [{ ...data, rowStride: 16, columnStride: 1, rows: 10 }] },
      'ERR_SHAPE',
    ],
    ['strides that wrap', { parts: [{ ...data, rowStride: 2 ** 52, columnStride: 2 ** 52 }] }, 'ERR_SHAPE'],
    ['a negative stride', { parts: [{ ...data, rowStride: -1, columnStride: 1 }] }, 'ERR_OPTION'],
    ['a file that is too short', { parts: [file] }, 'ERR_IO'],
    ['no such file', { parts: [{ ...file, path: join(folder, 'nothing') }] }, 'ERR_IO'],
    ['an empty path', { parts: [{ ...file, path: '' }] }, 'ERR_OPTION'],
  ])('refuses %s', async (_, change, code) => {
    expect(await codeOf(() => pack(change))).toBe(code);
  });
});

describe('a grid of scales', () => {
  // two rows of 200 values, and a scale for each row and 128 values
  const codes = new Uint8Array(400).fill(0x38); // 1
  const scales = Float32Array.of(1, 2, 3, 4);
  const sizes = { rows: 2, columns: 200, blockRows: 1, blockColumns: 128 };
  const grid = { data: scales, offset: 0, bytes: 16, format: 'f32', ...sizes, first: 0 };
  const packGrid = (change: object, source: object = {}): Promise<NativeWeight> =>
    pack({
      format: 'f8_e4m3',
      experts: 1,
      rows: 2,
      columns: 200,
      parts: [{ data: codes, offset: 0, bytes: 400, grid: { ...grid, ...change } }],
      ...source,
    });

  it('is looked up by block', async () => {
    const found = native.readWeight(await packGrid({}), 0, 0, 2);
    expect([0, 127, 128, 199, 200, 327, 328, 399].map((i) => found[i])).toEqual([1, 1, 2, 2, 3, 3, 4, 4]);
    const path = join(folder, 'scales.bin');
    writeFileSync(path, Buffer.concat([Buffer.alloc(3), Buffer.from(scales.buffer)]));
    const { data: _, ...rest } = grid;
    const parts = [{ data: codes, offset: 0, bytes: 400, grid: { ...rest, path, offset: 3 } }];
    expect(native.readWeight(await packGrid({}, { parts }), 0, 0, 2)).toEqual(found);
    expect(await codeOf(() => packGrid({ data: undefined, path, offset: 8 }))).toBe('ERR_IO');
  });

  it.each<[string, object, object, string]>([
    ['for another format', {}, { format: 'f32', columns: 50 }, 'ERR_FORMAT'],
    ['of another format', { format: 'q8_0' }, {}, 'ERR_FORMAT'],
    ['of no blocks', { blockRows: 0 }, {}, 'ERR_OPTION'],
    ['of no size', { columns: 0 }, {}, 'ERR_OPTION'],
    ['of too few scales', { bytes: 12 }, {}, 'ERR_SHAPE'],
    ['of half a scale', { bytes: 15 }, {}, 'ERR_SHAPE'],
    ['that begins behind its end', { first: 1 }, {}, 'ERR_SHAPE'],
    ['that begins far behind', { first: 2 ** 53 - 1 }, {}, 'ERR_SHAPE'],
    ['of more blocks than numbers', { rows: 2 ** 52, columns: 2 ** 52, blockColumns: 1 }, {}, 'ERR_SHAPE'],
    ['that changes within a group', { blockColumns: 100 }, {}, 'ERR_FORMAT'],
    ['that cannot be packed as blocks', {}, { as: 'q4_k' }, 'ERR_FORMAT'],
  ])('%s is refused', async (_, change, source, code) => {
    expect(await codeOf(() => packGrid(change, source))).toBe(code);
  });
});

describe('a weight', () => {
  it('is repeated without a copy', async () => {
    const before = native.memoryUsage().weights;
    const one = await pack({ experts: 1, parts: [{ ...data, bytes: values.byteLength / 2 }] });
    const bytes = native.memoryUsage().weights - before;
    expect(bytes).toBe(native.weightInfo(one).bytes);
    const many = native.repeatWeight(one, 64);
    expect(native.weightInfo(many)).toMatchObject({ experts: 64, rows, columns, bytes });
    native.disposeWeight(one);
    expect(native.memoryUsage().weights - before).toBe(bytes);
    expect([...native.readWeight(many, 63, 0, rows)]).toEqual([...values.subarray(0, rows * columns)]);
    native.disposeWeight(many);
    native.disposeWeight(many);
    expect(native.memoryUsage().weights).toBe(before);
    expect(await codeOf(() => native.weightInfo(many))).toBe('ERR_DISPOSED');
    expect(await codeOf(() => native.weightInfo(native.createBuffer(4) as never))).toBe('ERR_OPTION');
  });

  it('is read within its bounds', async () => {
    const weight = await pack();
    for (const [expert, row, count] of [
      [2, 0, 1],
      [-1, 0, 1],
      [0, 5, 1],
      [0, 0, 6],
      [0, 2 ** 31, 1],
      [0, NaN, 1],
    ]) {
      expect(await codeOf(() => native.readWeight(weight, expert, row, count))).toBe('ERR_OPTION');
    }
    expect(native.readWeight(weight, 0, 5, 0)).toHaveLength(0);
  });

  it('is what a program declares', async () => {
    const weight = await pack();
    const program = (dims: number[]) =>
      native.createProgram(
        encodeProgram({ weights: 1, buffers: [{ kind: 'weight', dims }], instructions: [] }),
        [],
        [weight],
      );
    expect(native.programInfo(program([experts, rows, columns])).instructions).toBe(0);
    for (const dims of [[experts, columns, rows], [rows, columns], []]) {
      expect(await codeOf(() => program(dims))).toBe('ERR_PROGRAM');
    }
  });
});
