import { closeSync, openSync, readFileSync, readSync, statSync, truncateSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ggufTensorTypes, readGguf } from '../../src/checkpoint/gguf.js';
import { storageFormats } from '../../src/checkpoint/tensor-file.js';
import { errorOf, expectSound, put, readsOrRefuses, temporaryFolder } from '../helpers/checkpoint.js';
import { fixturesFolder, modelsFolder, walkFiles } from '../helpers/fixtures.js';
import { type GgufToWrite, ggufBytes, type MetadataToWrite } from '../helpers/gguf-writer.js';

const folder = temporaryFolder();
const read = (file: GgufToWrite | Uint8Array) => {
  const bytes = file instanceof Uint8Array ? file : ggufBytes(file);
  return readGguf(put(folder, 'case.gguf', bytes));
};
const string = (value: string): MetadataToWrite => ({ type: 'string', value });

/** Every value type once, arrays of several, and tensors of a plain and a block format. */
const everything: GgufToWrite = {
  metadata: [
    ['a.u8', { type: 'u8', value: 255 }],
    ['a.i8', { type: 'i8', value: -128 }],
    ['a.u16', { type: 'u16', value: 65_535 }],
    ['a.i16', { type: 'i16', value: -32_768 }],
    ['a.u32', { type: 'u32', value: 4_294_967_295 }],
    ['a.i32', { type: 'i32', value: -2_147_483_648 }],
    ['a.f32', { type: 'f32', value: 0.5 }],
    ['a.f64', { type: 'f64', value: 0.1 }],
    ['a.u64', { type: 'u64', value: 2n ** 53n - 1n }],
    ['a.huge', { type: 'u64', value: 2n ** 53n }],
    ['a.i64', { type: 'i64', value: -5n }],
    ['a.bool', { type: 'bool', value: true }],
    ['a.nan', { type: 'f32', value: Number.NaN }],
    ['a.string', string('grün ▁ 🦙')],
    ['b.strings', { type: 'array', element: 'string', items: ['x', '', 'ü'].map(string) }],
    ['b.u8', { type: 'array', element: 'u8', items: [{ type: 'u8', value: 7 }] }],
    ['b.i32', { type: 'array', element: 'i32', items: [-1, 2, 3].map((value) => ({ type: 'i32', value })) }],
    ['b.i64', { type: 'array', element: 'i64', items: [{ type: 'i64', value: -9n }] }],
    ['b.huge', { type: 'array', element: 'u64', items: [{ type: 'u64', value: 2n ** 60n }] }],
    ['b.f32', { type: 'array', element: 'f32', items: [{ type: 'f32', value: Number.NEGATIVE_INFINITY }] }],
    ['b.bool', { type: 'array', element: 'bool', items: [{ type: 'bool', value: true }] }],
    ['b.empty', { type: 'array', element: 'f64', items: [] }],
  ],
  tensors: [
    { name: 'plain', dims: [3, 2], type: 0, data: Buffer.alloc(24) },
    { name: 'blocks', dims: [64, 5, 2], type: 3, data: Buffer.alloc(2 * 10 * 20) },
    { name: 'halves', dims: [1], type: 1, data: Buffer.alloc(2) },
  ],
};

describe('a sound file', () => {
  it('gives every type of value', () => {
    const { metadata } = read(everything);
    const ints = ['a.u8', 'a.i8', 'a.u16', 'a.i16', 'a.u32', 'a.i32', 'a.u64', 'a.i64'];
    expect(ints.map((key) => metadata.getInt(key))).toEqual([
      255,
      -128,
      65_535,
      -32_768,
      4_294_967_295,
      -2_147_483_648,
      Number.MAX_SAFE_INTEGER,
      -5,
    ]);
    expect(metadata.getFloat('a.f32')).toBe(0.5);
    expect(metadata.getFloat('a.f64')).toBe(0.1);
    expect(metadata.getFloat('a.u8')).toBe(255);
    expect(metadata.getBool('a.bool')).toBe(true);
    expect(metadata.getString('a.string')).toBe('grün ▁ 🦙');
    expect(metadata.getStringArray('b.strings')).toEqual(['x', '', 'ü']);
    expect(metadata.getIntArray('b.u8')).toEqual([7]);
    expect(metadata.getIntArray('b.i32')).toEqual([-1, 2, 3]);
    expect(metadata.getIntArray('b.i64')).toEqual([-9]);
    expect(metadata.getFloatArray('b.i32')).toEqual([-1, 2, 3]);
    expect(metadata.getFloatArray('b.f32')).toEqual([Number.NEGATIVE_INFINITY]);
    expect(metadata.getFloatArray('b.empty')).toEqual([]);
    expect(metadata.raw('a.huge')).toEqual({ type: 'u64', value: 2n ** 53n });
    expect(metadata.size).toBe(everything.metadata?.length);
  });

  it('gives the tensors, outermost dimension first', () => {
    const { tensors, path } = read(everything);
    expectSound(tensors);
    const start = statSync(path).size - 32 - 416 - 32; // three tensors, each padded to 32 bytes
    expect([...tensors]).toEqual([
      { name: 'plain', shape: [2, 3], format: 'f32', path, offset: start, bytes: 24 },
      { name: 'blocks', shape: [2, 5, 64], format: 'q4_1', path, offset: start + 32, bytes: 400 },
      { name: 'halves', shape: [1], format: 'f16', path, offset: start + 448, bytes: 2 },
    ]);
  });

  it.each([2, 3])('of version %i is read', (version) => {
    expect(read({ ...everything, version }).version).toBe(version);
  });

  it.each([8, 64, 65_536])('may be aligned to %i bytes', (alignment) => {
    const metadata: GgufToWrite['metadata'] = [['general.alignment', { type: 'u32', value: alignment }]];
    const file = read({ ...everything, metadata, alignment });
    expect(file.alignment).toBe(alignment);
    expect([...file.tensors].every(({ offset }) => offset % alignment === 0)).toBe(true);
  });

  it('may hold neither metadata nor tensors', () => {
    expect(read({}).tensors.size).toBe(0);
  });

  it('may have a string longer than one read', () => {
    const text = 'ab'.repeat(3 << 20);
    expect(read({ metadata: [['k', string(text)]] }).metadata.getString('k')).toBe(text);
  });

  it('may have strings across the borders of reads', () => {
    const texts = Array.from({ length: 200_000 }, (_, i) => `token ${i} ü`);
    const items = texts.map(string);
    const { metadata } = read({ metadata: [['k', { type: 'array', element: 'string', items }]] });
    expect(metadata.getStringArray('k')).toEqual(texts);
  });
});

describe('typed getters', () => {
  const file = read(everything);
  const { metadata } = file;
  it.each<[string, () => unknown, RegExp]>([
    ['a missing key', () => metadata.getInt('no'), /key "no"\] got no such key, expected an integer/],
    ['a string for an integer', () => metadata.getInt('a.string'), /got the string "grün/],
    ['a float for an integer', () => metadata.getInt('a.f32'), /got the f32 0.5/],
    ['a bool for an integer', () => metadata.getInt('a.bool'), /got the bool true/],
    ['an array for an integer', () => metadata.getInt('b.i32'), /got an array of 3 i32/],
    ['an integer that is too large', () => metadata.getInt('a.huge'), /got the u64 9007199254740992/],
    ['NaN', () => metadata.getFloat('a.nan'), /got the f32 NaN, expected a finite number/],
    ['an integer for a string', () => metadata.getString('a.u8'), /got the u8 255, expected a string/],
    ['an integer for a bool', () => metadata.getBool('a.u8'), /expected a bool/],
    ['a string for an array', () => metadata.getStringArray('a.string'), /expected an array of strings/],
    ['integers for strings', () => metadata.getStringArray('b.i32'), /got an array of 3 i32/],
    ['strings for integers', () => metadata.getIntArray('b.strings'), /expected an array of integers/],
    ['floats for integers', () => metadata.getIntArray('b.f32'), /expected an array of integers/],
    ['bools for integers', () => metadata.getIntArray('b.bool'), /expected an array of integers/],
    ['integers that are too large', () => metadata.getIntArray('b.huge'), /got an array of 1 u64/],
    ['strings for floats', () => metadata.getFloatArray('b.strings'), /expected an array of numbers/],
  ])('refuse %s', (_, get, message) => {
    const error = errorOf(get);
    expect(error.code).toBe('ERR_FORMAT');
    expect(error.message).toMatch(message);
    expect(error.message).toContain(file.path);
  });

  it('return the default for a missing key only', () => {
    expect(metadata.getInt('no', 3)).toBe(3);
    expect(metadata.getString('no', undefined)).toBeUndefined();
    expect(metadata.getStringArray('no', null)).toBeNull();
    expect(() => metadata.getInt('a.string', 3)).toThrow(/got the string/);
  });
});

const one = (more: object) => ({
  tensors: [{ name: 't', dims: [32], type: 0, data: Buffer.alloc(128), ...more }],
});
const pair = (a: object, b: object) => ({
  tensors: [
    { name: 'a', dims: [32], type: 0, data: Buffer.alloc(128), ...a },
    { name: 'b', dims: [32], type: 0, data: Buffer.alloc(128), ...b },
  ],
});
const value = (metadata: MetadataToWrite): GgufToWrite => ({ metadata: [['k', metadata]] });
const alignment = (alignment: MetadataToWrite): GgufToWrite => ({
  metadata: [['general.alignment', alignment]],
});

describe('a hostile file is refused', () => {
  it.each<[string, GgufToWrite, RegExp]>([
    ['another magic', { magic: 'GGML' }, /magic "GGML"/],
    ['version 1', { version: 1 }, /version 1, expected version 2 or 3/],
    ['version 4', { version: 4 }, /version 4/],
    ['a big-endian version', { version: 0x0300_0000 }, /version 50331648/],
    ['2^63 tensors', { declaredTensors: 2n ** 63n }, /tensor count 9223372036854775808/],
    ['2^53 keys', { declaredKeys: 2n ** 53n }, /key count/],
    ['2^31 tensors', { declaredTensors: 2n ** 31n }, /tensor count 2147483648/],
    ['more keys than bytes', { declaredKeys: 1000n }, /key count 1000, expected at most/],
    ['more tensors than bytes', { declaredTensors: 1000n }, /tensor count 1000, expected at most/],
    ['one tensor too many', { ...one({}), declaredTensors: 2n }, /tensor/],
    ['an empty key', { metadata: [['', string('')]] }, /an empty key/],
    ['a key that is not UTF-8', { metadata: [[Buffer.of(0xff), string('')]] }, /not UTF-8/],
    [
      'a key twice',
      {
        metadata: [
          ['k', string('')],
          ['k', string('')],
        ],
      },
      /key "k"\] got a key twice/,
    ],
    ['value type 13', value({ type: 'raw', typeNumber: 13, bytes: Buffer.alloc(8) }), /value type 13/],
    ['bool 2', value({ type: 'bool', value: 2 }), /bool 2/],
    [
      'bool 2 in an array',
      value({ type: 'array', element: 'bool', items: [{ type: 'bool', value: 2 }] }),
      /bool 2/,
    ],
    ['a nested array', value({ type: 'array', element: 'array', items: [] }), /array of arrays/],
    ['element type 99', value({ type: 'array', element: 99, items: [] }), /value type 99/],
    [
      'an array of 2^62',
      value({ type: 'array', element: 'u8', items: [], declaredLength: 2n ** 62n }),
      /length/,
    ],
    [
      'an array of 2^24',
      value({ type: 'array', element: 'u8', items: [], declaredLength: 1n << 24n }),
      /bytes left/,
    ],
    ['a string of 2^63', value({ type: 'string', value: '', declaredLength: 2n ** 63n }), /length/],
    ['a string of 2^30', value({ type: 'string', value: '', declaredLength: 1n << 30n }), /1073741824/],
    ['a string beyond the end', value({ type: 'string', value: '', declaredLength: 100n }), /file that ends/],
    [
      'a string that is not UTF-8',
      value({ type: 'string', value: Buffer.of(0xc3, 0x28) }),
      /"k"\] .*not UTF-8/,
    ],
    ['alignment 0', alignment({ type: 'u32', value: 0 }), /general.alignment"\] got 0/],
    ['alignment 4', alignment({ type: 'u32', value: 4 }), /got 4/],
    ['alignment 48', alignment({ type: 'u32', value: 48 }), /got 48/],
    ['alignment 2^17', alignment({ type: 'u32', value: 1 << 17 }), /got 131072/],
    ['a negative alignment', alignment({ type: 'i32', value: -32 }), /got -32/],
    ['alignment as text', alignment(string('32')), /got the string "32"/],
    ['alignment as a float', alignment({ type: 'f32', value: 32 }), /got the f32 32/],
    ['no dimensions', one({ dims: [] }), /tensor "t"\] got 0 dimensions/],
    ['five dimensions', one({ dims: [32, 1, 1, 1, 1] }), /5 dimensions/],
    ['2^32 - 1 dimensions', one({ declaredRank: 0xffff_ffff }), /4294967295 dimensions/],
    ['a dimension of 0', one({ dims: [0] }), /dimension of 0/],
    ['a dimension of 2^63', one({ dims: [2n ** 63n] }), /a dimension 9223372036854775808/],
    ['dimensions that wrap at 2^64', one({ dims: [2n ** 32n, 2n ** 32n, 2n] }), /element count/],
    ['a size that wraps', one({ dims: [2n ** 52n] }), /byte size/],
    ['tensor type 4', one({ type: 4 }), /tensor type 4/],
    ['tensor type 2^32 - 1', one({ type: 0xffff_ffff }), /tensor type/],
    ['half a block', one({ type: 2, dims: [48] }), /48 columns of q4_0, expected a multiple of 32/],
    ['a crooked offset', one({ offset: 4n }), /offset 4, expected a multiple of 32/],
    ['an offset of 2^63', one({ offset: 2n ** 63n }), /offset/],
    ['an offset that overflows with the start', one({ offset: 2n ** 53n - 32n }), /offset/],
    [
      'an end beyond the file',
      one({ offset: 32n }),
      /tensor "t"\] got bytes \d+ to \d+, expected an end inside/,
    ],
    ['more data than there is', one({ dims: [64] }), /an end inside the file/],
    ['an overlap', pair({}, { offset: 96n }), /tensor "b"\] got bytes that start inside "a"/],
    ['the same bytes twice', pair({}, { offset: 0n }), /start inside "a"/],
    ['a tensor twice', pair({ name: 'b' }, {}), /tensor "b"\] got a name twice/],
    ['an empty tensor name', one({ name: '' }), /empty tensor name/],
    ['a tensor name of 1025 bytes', one({ name: 'x'.repeat(1025) }), /1025 bytes/],
  ])('with %s', (_, file, message) => {
    const error = errorOf(() => read(file));
    expect(error.code).toBe('ERR_FORMAT');
    expect(error.message).toMatch(message);
    expect(error.message).toContain('case.gguf');
  });

  it('when huge counts would fit into a huge file', () => {
    const size = 2 ** 33;
    for (const file of [
      { declaredTensors: 2n ** 27n },
      { declaredKeys: 2n ** 27n },
      value({ type: 'array', element: 'string', items: [], declaredLength: 2n ** 27n }),
      value({ type: 'array', element: 'u64', items: [], declaredLength: 2n ** 29n }),
      value({ type: 'string', value: '', declaredLength: 2n ** 32n }),
    ] as GgufToWrite[]) {
      const path = put(folder, 'sparse.gguf', ggufBytes(file));
      truncateSync(path, size); // a hole: takes no room on the disk
      expect(errorOf(() => readGguf(path)).code).toBe('ERR_FORMAT');
    }
  });

  it('when it is empty, a folder, or not there', () => {
    expect(errorOf(() => read(Buffer.alloc(0))).message).toContain('ends at byte 0');
    expect(errorOf(() => readGguf(folder)).code).toBe('ERR_IO');
    expect(errorOf(() => readGguf(join(folder, 'none.gguf'))).message).toContain('ENOENT');
  });
});

describe('damage', () => {
  /** Reads all that can be read; the getters too must only throw the typed error. */
  const readAll = (path: string) => {
    const { metadata, tensors } = readGguf(path);
    expectSound(tensors);
    for (const [key] of metadata.entries()) {
      readsOrRefuses(path, () => metadata.getInt(key));
      readsOrRefuses(path, () => metadata.getFloatArray(key));
      readsOrRefuses(path, () => metadata.getStringArray(key));
    }
  };

  it('at every length that a file can be cut to', () => {
    const bytes = ggufBytes(everything);
    // The padding after the last tensor, 30 bytes, is not missed.
    for (let length = 0; length < bytes.length; length++) {
      const path = put(folder, 'cut.gguf', bytes.subarray(0, length));
      const outcome = readsOrRefuses(path, () => readAll(path));
      expect(outcome, `cut to ${length}`).toBe(length < bytes.length - 30 ? 'refused' : 'read');
    }
  });

  it('of every single bit of a header', () => {
    const bytes = ggufBytes(everything);
    const headerBytes = bytes.length - 480;
    let refused = 0;
    for (let bit = 0; bit < headerBytes * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      const path = put(folder, 'bit.gguf', damaged);
      if (readsOrRefuses(path, () => readAll(path)) === 'refused') refused++;
    }
    expect(refused).toBeGreaterThan(headerBytes); // most bits are lengths and types
  });

  const files = walkFiles(fixturesFolder, (name) => name.endsWith('.gguf'));
  it.skipIf(files.length === 0)('of real headers: bits, bytes and cuts', () => {
    for (const file of files) {
      const whole = readFileSync(file);
      const headerBytes = Math.min(...[...readGguf(file).tensors].map(({ offset }) => offset));
      const damage = fc.record({
        at: fc.array(fc.nat(headerBytes - 1), { minLength: 1, maxLength: 4 }),
        byte: fc.oneof(fc.constantFrom(0, 0x7f, 0x80, 0xff), fc.nat(255)),
        cut: fc.option(fc.nat(whole.length)),
      });
      fc.assert(
        fc.property(damage, ({ at, byte, cut }) => {
          const damaged = Buffer.from(whole.subarray(0, cut ?? whole.length));
          for (const place of at) if (place < damaged.length) damaged[place] = byte;
          const path = put(folder, 'damaged.gguf', damaged);
          readsOrRefuses(path, () => readAll(path));
        }),
        { numRuns: 500, seed: 7 },
      );
    }
  });
});

describe.skipIf(fixturesFolder === undefined)('fixtures', () => {
  it.each(walkFiles(fixturesFolder, (name) => name.endsWith('.gguf')).map((path) => [path]))('%s', (path) => {
    const { tensors, metadata } = readGguf(path);
    expectSound(tensors);
    const end = Math.max(...[...tensors].map(({ offset, bytes }) => offset + bytes));
    expect(Math.ceil(end / 32) * 32).toBe(Math.ceil(statSync(path).size / 32) * 32);
    const tokens = metadata.getStringArray('tokenizer.ggml.tokens');
    const width = metadata.getInt(`${metadata.getString('general.architecture')}.embedding_length`);
    expect(tensors.require('token_embd.weight', [tokens.length, width]).shape).toEqual([
      tokens.length,
      width,
    ]);
  });

  it('have the block sizes of the table', () => {
    for (const path of walkFiles(fixturesFolder, (name) => name === 'blocks.json')) {
      const { types } = JSON.parse(readFileSync(path, 'utf8'));
      for (const type of Object.values<Record<string, number>>(types)) {
        const { valuesPerBlock, bytesPerBlock } = storageFormats[ggufTensorTypes[type.ggml_type]];
        expect([valuesPerBlock, bytesPerBlock]).toEqual([type.values_per_block, type.bytes_per_block]);
      }
    }
  });
});

const models = walkFiles(modelsFolder, (name) => name.endsWith('.gguf'));
describe.skipIf(modelsFolder === undefined)('real models', () => {
  it.each(models.map((path) => [path]))('%s', (path) => {
    const { tensors, metadata } = readGguf(path);
    expectSound(tensors);
    const end = Math.max(...[...tensors].map(({ offset, bytes }) => offset + bytes));
    expect(statSync(path).size - end).toBeLessThan(32);
    const layers = metadata.getInt(`${metadata.getString('general.architecture')}.block_count`);
    expect(tensors.has(`blk.${layers - 1}.attn_q.weight`)).toBe(true);
    expect(tensors.has(`blk.${layers}.attn_q.weight`)).toBe(false);
  });

  it('with damaged headers', () => {
    for (const model of models) {
      const headerBytes = Math.min(...[...readGguf(model).tensors].map(({ offset }) => offset));
      const path = join(folder, basename(model));
      const header = Buffer.alloc(headerBytes);
      const from = openSync(model, 'r');
      readSync(from, header, 0, headerBytes, 0);
      closeSync(from);
      put(folder, basename(model), header);
      truncateSync(path, statSync(model).size);
      const fd = openSync(path, 'r+');
      fc.assert(
        fc.property(fc.nat(headerBytes - 1), fc.nat(7), (at, bit) => {
          writeSync(fd, Buffer.of(header[at] ^ (1 << bit)), 0, 1, at);
          readsOrRefuses(path, () => expectSound(readGguf(path).tensors));
          writeSync(fd, header, at, 1, at);
        }),
        { numRuns: 150, seed: 11 },
      );
      closeSync(fd);
      expectSound(readGguf(path).tensors);
    }
  });
});
