import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ggufTensorTypes } from '../../src/checkpoint/gguf.js';
import { device } from '../../src/core/device.js';
import { isWeightFormat, STORED_FORMATS } from '../../src/core/format.js';
import { expectClose } from './compare.js';
import { ofKind, readJson, StoredTensors } from './folders.js';
import { reasonFor } from './not-yet.js';

interface BlockType {
  ggml_type: number;
  values_per_block: number;
  bytes_per_block: number;
  rows: number;
  columns: number;
}

/** Decoded values differ at most by the order of two multiplications. */
const TOLERANCE = 1e-6;

it('every stored format has a number in GGUF files', () => {
  expect(Object.values(ggufTensorTypes)).toEqual(
    expect.arrayContaining(STORED_FORMATS.filter((format) => format !== 'f8_e4m3')),
  );
});

describe.each(ofKind('blocks'))('quantised blocks of $name', ({ path }) => {
  const { types } = readJson(join(path, 'blocks.json')) as { types: Record<string, BlockType> };
  const stored = new StoredTensors(join(path, 'blocks.safetensors'));
  const cases = Object.entries(types).map(([name, type]) => ({
    name,
    type,
    format: ggufTensorTypes[type.ggml_type] as string,
  }));
  const decoded = (name: string) => `${name}.values`;

  for (const { name, type, format } of cases) {
    const excuse = reasonFor('formats', format);
    if (excuse !== undefined) {
      it(`${name}: not built yet (${excuse})`, () => expect(isWeightFormat(format)).toBe(false));
      continue;
    }
    it(`${name}: packed and read back`, async () => {
      const { rows, columns } = type;
      const bytes = stored.get(`${name}.bytes`).data;
      const want = stored.floats(decoded(name)).data;
      expect(bytes.length).toBe(((rows * columns) / type.values_per_block) * type.bytes_per_block);
      const { addon, native } = device();
      const parts = [{ data: bytes, offset: 0, bytes: bytes.byteLength }];
      const weight = await addon.packWeight(native, { format, experts: 1, rows, columns, parts });
      const got = addon.readWeight(weight, 0, 0, rows);
      // Out of the panels come the very bytes that went in.
      expect(Buffer.from(addon.storeWeight(weight, 0, 0, rows)).equals(Buffer.from(bytes))).toBe(true);
      addon.disposeWeight(weight);
      expectClose(`${name} values`, got, want, { tolerance: TOLERANCE });
      for (let i = 0; i < want.length; i++) {
        const [a, b] = [got[i] as number, want[i] as number];
        if (Math.abs(a - b) > TOLERANCE * Math.abs(b)) expect({ i, value: a }).toEqual({ i, value: b });
      }
    });
  }
});
