/** Older GGUF files of latent attention keep keys and values in one quantised matrix; the keys' half is wanted transposed. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { TensorTable } from '../../../src/checkpoint/tensor-file.js';
import type { WeightPart } from '../../../src/core/addon.js';
import { defaultDevice } from '../../../src/core/device.js';
import type { StoredFormat } from '../../../src/core/format.js';
import type { Part } from '../../../src/models/decoder/parameters.js';
import { ggufNames } from '../../../src/models/gguf/names.js';
import { StoredNames } from '../../../src/models/read/names.js';
import { WeightLoader } from '../../../src/models/read/weights.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { codeOf } from '../../helpers/native.js';
import { storedBytes, valuesPerBlock } from '../../helpers/weights.js';

const folder = temporaryFolder();
const device = defaultDevice();
const { addon } = device;
const NAME = 'blk.0.attn_kv_b.weight';
const part = (name: string, ...shape: number[]): Part => ({
  name: `layers.0.attention.${name}.weight`,
  role: 'attention',
  kind: 'matrix',
  shape,
});

describe('a quantised kv_b', () => {
  it.each<[StoredFormat, heads: number, keys: number, values: number, blocks: number]>([
    ['q8_0', 3, 20, 33, 3],
    ['q4_0', 1, 1, 1, 1],
    ['q5_1', 2, 128, 128, 16],
    ['q4_k', 2, 48, 16, 2],
    ['q6_k', 5, 7, 9, 1],
    ['iq4_nl', 2, 32, 8, 2],
    ['mxfp4', 2, 16, 8, 2],
  ])('of %s: %d heads, %d keys, %d values, %d blocks a row', async (format, heads, keys, values, blocks) => {
    const rank = blocks * valuesPerBlock(format);
    const each = keys + values;
    const data = storedBytes({ format, experts: 1, rows: heads * each, columns: rank }, heads);
    const path = join(folder, `${format}.bin`);
    writeFileSync(path, Buffer.concat([Buffer.alloc(5), data]));
    const entry = { name: NAME, shape: [heads * each, rank], format, path, offset: 5, bytes: data.length };
    const table = new TensorTable(path, [entry]);
    const parts = [part('k_up', heads, rank, keys), part('v_up', heads, values, rank)];
    const names = new StoredNames(ggufNames, parts, (name) => table.has(name));
    const loader = new WeightLoader(device, table, names, 1, undefined, undefined);
    const whole = await addon.packWeight(device.native, {
      format,
      experts: 1,
      rows: heads * each,
      columns: rank,
      parts: [{ data, offset: 0, bytes: data.length }],
    });
    try {
      const all = addon.readWeight(whole, 0, 0, heads * each);
      const [k, v] = [await loader.matrix(parts[0] as Part), await loader.matrix(parts[1] as Part)];
      expect([k.format, v.format]).toEqual(['f32', format]);
      for (let h = 0; h < heads; h++) {
        const own = all.subarray(h * each * rank, (h + 1) * each * rank);
        const turned = Float32Array.from(
          { length: rank * keys },
          (_, i) => own[(i % keys) * rank + Math.floor(i / keys)] as number,
        );
        expect(addon.readWeight(k.native, h, 0, rank)).toEqual(turned);
        expect(addon.readWeight(v.native, h, 0, values)).toEqual(own.slice(keys * rank));
      }
    } finally {
      addon.disposeWeight(whole);
      loader.release();
    }
  });

  const data = new Uint8Array(34 * 2 * 32); // 32 stored rows of 64 values
  const turned = { data, offset: 0, bytes: data.length, rows: 64, rowStride: 1, columnStride: 64 };
  it.each<[string, Partial<WeightPart>, object, string]>([
    ['rows that part blocks', { rows: 40 }, { rows: 40 }, 'ERR_FORMAT'],
    ['columns that part blocks', { columnStride: 40 }, {}, 'ERR_FORMAT'],
    ['every second row', { rowStride: 2 }, {}, 'ERR_FORMAT'],
    ['blocks to stay as they are', {}, { as: undefined }, 'ERR_FORMAT'],
    ['too few bytes', { bytes: data.length - 1 }, {}, 'ERR_SHAPE'],
    ['columns that overflow', { columnStride: 2 ** 50 }, {}, 'ERR_SHAPE'],
  ])('is refused with %s', async (_, change, source, code) => {
    const packing = () =>
      addon.packWeight(device.native, {
        format: 'q8_0',
        as: 'f32',
        experts: 1,
        rows: 64,
        columns: 32,
        parts: [{ ...turned, ...change }],
        ...source,
      });
    expect(await codeOf(packing)).toBe(code);
  });
});
