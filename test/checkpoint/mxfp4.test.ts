import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/folder.js';
import { fileBytes } from '../../src/checkpoint/tensor-file.js';
import { defaultDevice } from '../../src/core/device.js';
import type { Part } from '../../src/models/decoder/parameters.js';
import { StoredNames } from '../../src/models/read/names.js';
import { WeightLoader } from '../../src/models/read/weights.js';
import { put, safetensorsBytes, temporaryFolder } from '../helpers/checkpoint.js';
import { generator } from '../helpers/random.js';

const [E, F, K] = [2, 19, 96];
const ROWS = 2 * F;
const root = temporaryFolder();
let count = 0;

const next = generator(3);
const codes = Uint8Array.from({ length: (E * ROWS * K) / 2 }, () => next() * 256);
const exponents = Uint8Array.from({ length: (E * ROWS * K) / 32 }, () => 117 + next() * 20);

/** A folder whose tensors lie one after another in the order given. */
function folderOf(tensors: [name: string, dtype: string, shape: number[], bytes: Uint8Array][]): string {
  const folder = join(root, `folder-${count++}`);
  mkdirSync(folder);
  let at = 0;
  const header: Record<string, object> = {};
  for (const [name, dtype, shape, { length }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + length] };
    at += length;
  }
  const data = tensors.map(([, , , bytes]) => bytes);
  put(folder, 'config.json', '{}');
  put(folder, 'model.safetensors', Buffer.concat([safetensorsBytes(header), ...data]));
  return folder;
}
const blocks = ['w_blocks', 'U8', [E, ROWS, K / 32, 16], codes] as const;
const scales = ['w_scales', 'U8', [E, ROWS, K / 32], exponents] as const;
const tablesOf = (...tensors: (readonly [string, string, readonly number[], Uint8Array])[]) => {
  const model = openCheckpoint(folderOf(tensors.map(([a, b, c, d]) => [a, b, [...c], d])));
  if (model.kind !== 'huggingface') throw new Error(model.kind);
  return model.tensors;
};

/** OCP Microscaling Formats 1.0, sections 5.3 and 6.3: E2M1 times 2^(e - 127); two neighbours in a byte, the first low. */
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
function valueAt(expert: number, row: number, k: number): number {
  const at = (expert * ROWS + row) * K + k;
  const code = ((codes[at >> 1] as number) >> (4 * (at & 1))) & 15;
  const size = (E2M1[code & 7] as number) * 2 ** ((exponents[Math.floor(at / 32)] as number) - 127);
  return code > 7 ? 0 - size : size;
}

describe('codes and scales of MXFP4 in two tensors', () => {
  it('become one, whose bytes are all counted', () => {
    const table = tablesOf(blocks, scales);
    expect([...table.names()]).toEqual(['w_blocks']);
    const entry = table.get('w_blocks');
    expect(entry).toMatchObject({ format: 'mxfp4', shape: [E, ROWS, K], bytes: codes.length });
    expect(fileBytes(entry)).toBe(codes.length + exponents.length);
  });

  it.each<[string, ...Parameters<typeof tablesOf>]>([
    ['no scales', blocks],
    ['scales of another size', blocks, ['w_scales', 'U8', [E * ROWS, K / 32], exponents]],
    ['scales of another type', blocks, ['w_scales', 'I8', [E, ROWS, K / 32], exponents]],
    ['codes of another size', ['w_blocks', 'U8', [E, ROWS, K / 16, 8], codes], scales],
  ])('stay bytes with %s', (_, ...tensors) => {
    const table = tablesOf(...tensors);
    expect([...table.names()]).toEqual(tensors.map(([name]) => name));
    expect(table.get('w_blocks').format).toBe('u8');
  });

  it.each([
    ['whole', ['w']],
    ['row by row in turns', ['gate', 'up']],
    ['one behind the other', ['gate', 'up'], 1],
  ] as [string, string[], number?][])('are packed %s', async (_, names, turns = F) => {
    const device = defaultDevice();
    const table = tablesOf(scales, blocks);
    const rows = ROWS / names.length;
    const parts = names.map((name): Part => ({ name, role: 'experts', kind: 'matrix', shape: [E, rows, K] }));
    const stored = new StoredNames([{ tensor: 'w_blocks', parts: names, turns }], parts, (t) => table.has(t));
    const loader = new WeightLoader(device, table, stored, 1, undefined, undefined);
    for (const [i, part] of parts.entries()) {
      const { native, format } = await loader.matrix(part);
      expect(format).toBe('mxfp4');
      for (let e = 0; e < E; e++) {
        const got = device.addon.readWeight(native, e, 0, rows);
        const at = (r: number) => (names.length === 1 ? r : turns === F ? 2 * r + i : i * F + r);
        const want = Array.from({ length: rows * K }, (_, j) => valueAt(e, at(Math.floor(j / K)), j % K));
        expect([...got].map((v) => v + 0)).toEqual(want.map((v) => v + 0));
      }
    }
    loader.release();
  });
});
