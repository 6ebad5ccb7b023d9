import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/folder.js';
import { fileBytes, type TensorTable } from '../../src/checkpoint/tensor-file.js';
import { defaultDevice } from '../../src/core/device.js';
import type { Part } from '../../src/models/decoder/parameters.js';
import { type NameTable, StoredNames } from '../../src/models/read/names.js';
import { WeightLoader } from '../../src/models/read/weights.js';
import { put, safetensorsBytes, temporaryFolder } from '../helpers/checkpoint.js';
import { bfloatBits } from '../helpers/interpreter/value.js';
import { generator } from '../helpers/random.js';

const root = temporaryFolder();
let count = 0;

/** Micikevicius et al. 2022, table 1: 2^(e - 7) · 1.m, below that 2^-6 · 0.m; no infinity, all ones are NaN. */
function e4m3(code: number): number {
  const [exponent, fraction] = [(code >> 3) & 15, code & 7];
  const size =
    (code & 127) === 127
      ? Number.NaN
      : exponent === 0
        ? fraction * 2 ** -9
        : (1 + fraction / 8) * 2 ** (exponent - 7);
  return code > 127 ? -size : size;
}

interface Stored {
  name: string;
  dtype: string;
  shape: readonly number[];
  data: Uint8Array | Float32Array | Uint16Array;
}

function tableOf(tensors: readonly Stored[], quantization?: object): TensorTable {
  const folder = join(root, `folder-${count++}`);
  mkdirSync(folder);
  let at = 0;
  const header: Record<string, object> = {};
  for (const { name, dtype, shape, data } of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
  }
  const bytes = tensors.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  put(folder, 'config.json', JSON.stringify(quantization ? { quantization_config: quantization } : {}));
  put(folder, 'model.safetensors', Buffer.concat([safetensorsBytes(header), ...bytes]));
  const model = openCheckpoint(folder);
  if (model.kind !== 'huggingface') throw new Error(model.kind);
  return model.tensors;
}

const size = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const next = generator(3);
const codesOf = (shape: readonly number[]): Stored => ({
  name: 'w',
  dtype: 'F8_E4M3',
  shape,
  data: Uint8Array.from({ length: size(shape) }, () => {
    const code = next() * 256;
    return (code & 127) === 127 ? 0 : code;
  }),
});
const scalesOf = (shape: readonly number[], name = 'w_scale_inv'): Stored => ({
  name,
  dtype: 'F32',
  shape,
  data: Float32Array.from({ length: size(shape) }, () => 0.001 + next() / 100),
});
const blocks = (rows: number, columns: number) => ({
  quant_method: 'fp8',
  fmt: 'e4m3',
  activation_scheme: 'dynamic',
  weight_block_size: [rows, columns],
});
const plain = { quant_method: 'fp8', activation_scheme: 'static' };

/** What loading makes of parts of the tensor w: the format and the values of each. */
async function load(table: TensorTable, parts: readonly Part[], names: NameTable) {
  const device = defaultDevice();
  const stored = new StoredNames(names, parts, (name) => table.has(name));
  const loader = new WeightLoader(device, table, stored, 1, undefined, undefined);
  try {
    const found = [];
    for (const part of parts) {
      const { native, format, experts, rows } = await loader.matrix(part);
      const values = Array.from({ length: experts }, (_, e) => [
        ...device.addon.readWeight(native, e, 0, rows),
      ]);
      found.push({ format, values: values.flat() });
    }
    return found;
  } finally {
    loader.release();
  }
}
const matrix = (name: string, ...shape: number[]): Part => ({ name, role: 'experts', kind: 'matrix', shape });
const whole = (shape: readonly number[]) => [matrix('p', ...shape)];
const asIs = [{ tensor: 'w', parts: ['p'] }];

/** codes · scales, the scale of (matrix, row, column) by its place. */
function valuesOf({ shape, data }: Stored, scaleAt: (e: number, row: number, column: number) => number) {
  const [rows = 1, columns = 1] = shape.slice(-2);
  return [...(data as Uint8Array)].map((code, i) => {
    const row = Math.floor(i / columns);
    return Math.fround(e4m3(code) * scaleAt(Math.floor(row / rows), row % rows, i % columns)) + 0;
  });
}
const rounded = (values: readonly number[]) => values.map((v) => v + 0);

describe('FP8 with scales apart', () => {
  it('decodes every code', async () => {
    const data = Uint8Array.from({ length: 256 }, (_, i) => ((i & 127) === 127 ? 0 : i));
    const codes: Stored = { name: 'w', dtype: 'F8_E4M3', shape: [2, 128], data };
    const [found] = await load(tableOf([codes]), whole([2, 128]), asIs);
    expect(found?.format).toBe('f8_e4m3');
    expect(rounded(found?.values ?? [])).toEqual([...data].map((code) => e4m3(code) + 0));
  });

  it('becomes one tensor, whose bytes are all counted', () => {
    const codes = codesOf([300, 260]);
    const scales = scalesOf([3, 3]);
    const table = tableOf([codes, scales], blocks(128, 128));
    expect([...table.names()]).toEqual(['w']);
    expect(table.get('w').grid).toMatchObject({ format: 'f32', blockRows: 128, blockColumns: 128 });
    expect(fileBytes(table.get('w'))).toBe(300 * 260 + 9 * 4);
  });

  it('has blocks of any size, on matrices and stacks of any size', async () => {
    const dimension = fc.integer({ min: 1, max: 300 });
    const block = fc.constantFrom(1, 3, 64, 128, 200, 256, 1000);
    const property = fc.asyncProperty(
      fc.option(fc.integer({ min: 1, max: 3 }), { nil: undefined }),
      dimension,
      dimension,
      block,
      block,
      async (experts, rows, columns, high, wide) => {
        const outer = experts === undefined ? [] : [experts];
        const grid = [Math.ceil(rows / high), Math.ceil(columns / wide)] as const;
        const codes = codesOf([...outer, rows, columns]);
        const scales = scalesOf([...outer, ...grid]);
        const [found] = await load(
          tableOf([codes, scales], blocks(high, wide)),
          whole([...outer, rows, columns]),
          asIs,
        );
        expect(found?.format).toBe(wide % 128 === 0 || wide >= columns ? 'f8_e4m3' : 'f32');
        const scaleAt = (e: number, row: number, column: number) =>
          scales.data[(e * grid[0] + Math.floor(row / high)) * grid[1] + Math.floor(column / wide)] as number;
        expect(rounded(found?.values ?? [])).toEqual(valuesOf(codes, scaleAt));
      },
    );
    await fc.assert(property, { seed: 5, numRuns: 40 });
  });

  it.each<[string, number[], object, (row: number) => number]>([
    ['a tensor, as a number', [], plain, () => 0],
    ['a tensor, as a vector', [1], plain, () => 0],
    ['a row, as a vector', [37], plain, (row) => row],
    ['a row, as a column', [37, 1], { quant_method: 'fbgemm_fp8' }, (row) => row],
    ['a row, where there are blocks elsewhere', [37, 1], blocks(16, 16), (row) => row],
  ])('may have one scale for %s', async (_, shape, quantization, place) => {
    const codes = codesOf([37, 150]);
    const scales = scalesOf(shape, 'w_scale');
    const [found] = await load(tableOf([codes, scales], quantization), whole([37, 150]), asIs);
    expect(found?.format).toBe('f8_e4m3');
    expect(rounded(found?.values ?? [])).toEqual(
      valuesOf(codes, (_e, row) => scales.data[place(row)] as number),
    );
  });

  it('takes scales of 16 bits, and what compressed-tensors says', async () => {
    const weights = { num_bits: 8, type: 'float', symmetric: true, dynamic: false };
    const groups = {
      group_0: { targets: ['Linear'], weights: { ...weights, strategy: 'channel' } },
      group_1: {
        targets: ['Linear'],
        weights: { ...weights, strategy: 'block', block_structure: [128, 128] },
      },
    };
    const scales = Float32Array.from({ length: 6 }, (_, i) => (i + 1) / 128);
    const bits = Uint16Array.from(scales, bfloatBits);
    const codes = codesOf([3 * 128, 2 * 128]);
    const table = tableOf([codes, { name: 'w_scale', dtype: 'BF16', shape: [3, 2], data: bits }], {
      quant_method: 'compressed-tensors',
      config_groups: groups,
    });
    const [found] = await load(table, whole([3 * 128, 2 * 128]), asIs);
    const scaleAt = (_: number, row: number, column: number) =>
      scales[(row >> 7) * 2 + (column >> 7)] as number;
    expect(rounded(found?.values ?? [])).toEqual(valuesOf(codes, scaleAt));
  });

  // Keys and values of each head in turns of rows, the keys' transposed: blocks begin where a head's keys do, or do not.
  it.each([
    ['whole blocks of a head', 128, 128, 128, 'f8_e4m3'],
    ['blocks that part a head', 128, 64, 128, 'f32'],
    ['keys across the end of a block', 100, 12, 128, 'f32'],
    ['one block for all', 20, 12, 4096, 'f8_e4m3'],
  ])('is split with %s', async (_, keys, values, block, format) => {
    const [heads, rank] = [3, 150];
    const each = keys + values;
    const codes = codesOf([heads * each, rank]);
    const grid = [Math.ceil((heads * each) / block), Math.ceil(rank / block)] as const;
    const scales = scalesOf(grid);
    const scaleAt = (_e: number, row: number, column: number) =>
      scales.data[Math.floor(row / block) * grid[1] + Math.floor(column / block)] as number;
    const all = valuesOf(codes, scaleAt);
    const parts = [matrix('k', heads, rank, keys), matrix('v', heads, values, rank)];
    const [k, v] = await load(tableOf([codes, scales], blocks(block, block)), parts, [
      { tensor: 'w', parts: ['kᵀ', 'v'], flat: true },
    ]);
    const at = (head: number, row: number, column: number) => all[(head * each + row) * rank + column];
    const wantK = Array.from({ length: heads * rank * keys }, (_, i) =>
      at(Math.floor(i / keys / rank), i % keys, Math.floor(i / keys) % rank),
    );
    const wantV = Array.from({ length: heads * values * rank }, (_, i) =>
      at(Math.floor(i / rank / values), keys + (Math.floor(i / rank) % values), i % rank),
    );
    expect([k?.format, v?.format]).toEqual([format, 'f8_e4m3']);
    expect(rounded(k?.values ?? [])).toEqual(wantK);
    expect(rounded(v?.values ?? [])).toEqual(wantV);
  });

  it('passes over scales of activations and caches', () => {
    const spare = ['a.input_scale', 'a.k_proj.k_scale', 'a.activation_scale'].map((name) =>
      scalesOf([1], name),
    );
    expect([...tableOf([codesOf([4, 4]), scalesOf([]), ...spare], plain).names()]).toEqual(['w']);
  });

  const codes = codesOf([40, 40]);
  it.each<[string, Stored[], object | undefined, string, RegExp]>([
    ['no scales', [codes], blocks(128, 128), 'ERR_FORMAT', /w.*w_scale_inv/],
    [
      'scales of another shape',
      [codes, scalesOf([2, 3])],
      blocks(16, 16),
      'ERR_FORMAT',
      /\[2, 3\].*\[3, 3\]/,
    ],
    ['blocks of no known size', [codes, scalesOf([3, 3])], plain, 'ERR_FORMAT', /\[3, 3\]/],
    [
      'scales of bytes',
      [codes, { ...codesOf([]), name: 'w_scale', dtype: 'U8' }],
      plain,
      'ERR_UNSUPPORTED',
      /u8/,
    ],
    ['another float', [], { ...plain, fmt: 'e5m2' }, 'ERR_UNSUPPORTED', /e5m2/],
    ['a block of nothing', [], blocks(0, 128), 'ERR_FORMAT', /block size/],
    ['another method', [], { quant_method: 'awq' }, 'ERR_UNSUPPORTED', /awq.*fp8/],
    ['no method', [], {}, 'ERR_UNSUPPORTED', /nothing/],
    [
      'integers of compressed-tensors',
      [],
      {
        quant_method: 'compressed-tensors',
        config_groups: { a: { weights: { num_bits: 4, type: 'int', strategy: 'channel' } } },
      },
      'ERR_UNSUPPORTED',
      /num_bits/,
    ],
    [
      'no groups',
      [],
      { quant_method: 'compressed-tensors', config_groups: 3 },
      'ERR_FORMAT',
      /quantization_config/,
    ],
  ])('is refused with %s', (_, tensors, quantization, code, message) => {
    expect(() => tableOf(tensors, quantization)).toThrow(
      expect.objectContaining({ code, message: expect.stringMatching(message) }),
    );
  });

  it.each<[string, (codes: Stored, scales: Stored) => void, RegExp]>([
    ['a NaN among its codes', ({ data }) => data.fill(0xff, 7, 8), /NaN.*column 7/],
    ['a scale that is not finite', (_, { data }) => data.fill(Number.NaN), /scale of (-?)nan/],
    ['a scale beyond any weight', (_, { data }) => data.fill(256), /scale of 256/],
  ])('is refused with %s', async (_, spoil, message) => {
    const [codes, scales] = [codesOf([4, 40]), scalesOf([1])];
    spoil(codes, scales);
    const table = tableOf([codes, scales], plain);
    await expect(load(table, whole([4, 40]), asIs)).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringMatching(message),
    });
  });
});
