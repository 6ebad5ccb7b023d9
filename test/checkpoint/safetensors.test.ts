import { readdirSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readSafetensors } from '../../src/checkpoint/safetensors.js';
import { type TensorToWrite, writeSafetensors } from '../../src/checkpoint/safetensors-write.js';
import { SwitchyardError } from '../../src/core/errors.js';
import {
  errorOf,
  expectSound,
  put,
  readsOrRefuses,
  safetensorsBytes,
  temporaryFolder,
} from '../helpers/checkpoint.js';
import { fixturesFolder, walkFiles } from '../helpers/fixtures.js';

const folder = temporaryFolder();
const read = (bytes: Uint8Array) => readSafetensors(put(folder, 'case.safetensors', bytes));

const f32 = (shape: number[], begin: number, end: number) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

describe('a sound file', () => {
  it('gives tensors and metadata, in the order of the header', () => {
    const header = {
      b: { dtype: 'BF16', shape: [2, 3], data_offsets: [4, 16] },
      __metadata__: { format: 'pt', note: 'a "quote"' },
      a: f32([], 0, 4),
      'ü\n': { dtype: 'I64', shape: [0, 7], data_offsets: [16, 16] },
    };
    const { tensors, metadata, path } = read(safetensorsBytes(header, 16));
    expectSound(tensors);
    const start = statSync(path).size - 16;
    expect([...tensors]).toEqual([
      { name: 'b', shape: [2, 3], format: 'bf16', path, offset: start + 4, bytes: 12 },
      { name: 'a', shape: [], format: 'f32', path, offset: start, bytes: 4 },
      { name: 'ü\n', shape: [0, 7], format: 'i64', path, offset: start + 16, bytes: 0 },
    ]);
    expect([...metadata]).toEqual([
      ['format', 'pt'],
      ['note', 'a "quote"'],
    ]);
  });

  it.each(['{}', '{ }   \n'])('may be empty: %j', (header) => {
    expect(read(safetensorsBytes(header)).tensors.size).toBe(0);
  });

  it('may have tensors that are called like parts of objects', () => {
    const header =
      '{"__proto__":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"constructor":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}';
    const { tensors } = read(safetensorsBytes(header, 1));
    expect([...tensors.names()]).toEqual(['__proto__', 'constructor']);
    expect(tensors.has('toString')).toBe(false);
  });
});

describe('a hostile file is refused', () => {
  const entry = '{"dtype":"F32","shape":[1],"data_offsets":[0,4]}';
  it.each<[string, string | object | Uint8Array, number, RegExp]>([
    ['a list for a header', '[]', 0, /does not start with \{/],
    ['a space before the header', ' {}', 0, /does not start with \{/],
    ['text after the header', '{}x', 0, /'x' at byte 2 of the JSON text, expected the end/],
    ['half a header', '{"a":', 0, /the end of the text at byte 5/],
    ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 0, /not UTF-8/],
    ['a tensor twice', `{"a":${entry},"a":${entry}}`, 4, /JSON key "a" twice/],
    ['a tensor twice, once escaped', `{"a":${entry},"\\u0061":${entry}}`, 4, /JSON key "a" twice/],
    ['a key of an entry twice', '{"a":{"dtype":"F32","dtype":"F32"}}', 4, /"dtype" twice/],
    ['metadata twice', '{"__metadata__":{},"__metadata__":{}}', 0, /twice/],
    ['metadata that is not text', '{"__metadata__":{"a":1}}', 0, /'1' at byte 21.*expected '"'/],
    ['a bad escape', '{"\\x":1}', 0, /valid escapes/],
    ['a control character in a name', '{"\n":1}', 0, /the end of a string/],
    ['a trailing comma', `{"a":${entry},}`, 4, /expected '"'/],
    ['an entry that is not an object', '{"a":[]}', 0, /expected '\{'/],
    ['an entry without a dtype', { a: { shape: [1], data_offsets: [0, 4] } }, 4, /incomplete entry/],
    ['an entry without a shape', { a: { dtype: 'F32', data_offsets: [0, 4] } }, 4, /incomplete entry/],
    ['an entry without offsets', { a: { dtype: 'F32', shape: [1] } }, 4, /incomplete entry/],
    ['an unknown key', { a: { ...f32([1], 0, 4), more: 1 } }, 4, /the key "more"/],
    ['an unknown dtype', { a: { ...f32([1], 0, 4), dtype: 'toString' } }, 4, /dtype "toString"/],
    ['a negative dimension', { a: f32([-1], 0, 4) }, 4, /dimension -1/],
    ['half a dimension', { a: f32([0.5], 0, 4) }, 4, /dimension 0.5/],
    ['a dimension with an exponent', '{"a":{"dtype":"F32","shape":[1e0],"data_offsets":[0,4]}}', 4, /1e0/],
    ['a dimension of 2^53', { a: f32([2 ** 53], 0, 4) }, 4, /dimension 9007199254740992/],
    ['a dimension as text', '{"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}}', 4, /dimension '"'/],
    ['seventeen dimensions', { a: f32(new Array(17).fill(1), 0, 4) }, 4, /more than 16 dimensions/],
    ['dimensions that wrap at 2^64', { a: f32([2 ** 32, 2 ** 32], 0, 0) }, 0, /element count/],
    ['a size that wraps', { a: f32([2 ** 51, 2], 0, 0) }, 0, /byte size/],
    ['one offset', { a: { ...f32([1], 0, 4), data_offsets: [4] } }, 4, /data_offsets \[4\]/],
    ['three offsets', { a: { ...f32([1], 0, 4), data_offsets: [0, 4, 4] } }, 4, /more than 2 offsets/],
    ['offsets in the wrong order', { a: f32([1], 4, 0) }, 4, /data_offsets \[4,0\]/],
    ['a span that is too short', { a: f32([2], 0, 4) }, 4, /tensor "a"\] got 4 bytes, expected 8/],
    ['a span that is too long', { a: f32([1], 0, 8) }, 8, /got 8 bytes, expected 4/],
    ['a hole at the start', { a: f32([1], 4, 8) }, 8, /a hole: data at byte 4/],
    ['a hole in the middle', { a: f32([1], 0, 4), b: f32([1], 8, 12) }, 12, /tensor "b"\] got a hole/],
    ['an overlap', { a: f32([2], 0, 8), b: f32([1], 4, 8) }, 8, /tensor "b"\] got an overlap/],
    ['data that is missing', { a: f32([2], 0, 8) }, 7, /tensor "a"\] got an end at byte 8.*at most 7/],
    ['data that belongs to nothing', { a: f32([1], 0, 4) }, 5, /got 5 bytes of data, expected 4/],
  ])('with %s', (_, header, dataBytes, message) => {
    const error = errorOf(() => read(safetensorsBytes(header, dataBytes)));
    expect(error.code).toBe('ERR_FORMAT');
    expect(error.message).toMatch(message);
    expect(error.message).toContain('case.safetensors');
  });

  it.each([
    [0n, /does not start/],
    [3n, /ends at byte/],
    [100_000_001n, /at most 100000000/],
    [2n ** 63n, /less than 2\^53/],
  ])('with a header length of %i', (declared, message) => {
    expect(errorOf(() => read(safetensorsBytes('{}', 0, declared))).message).toMatch(message);
  });

  it('with more nesting, tensors or metadata than anything real', () => {
    const deep = `{"a":${'['.repeat(1_000_000)}`;
    const empty = '{"dtype":"U8","shape":[0],"data_offsets":[0,0]}';
    const tensors = `{${Array.from({ length: 2 ** 20 + 1 }, (_, i) => `"${i}":${empty}`).join(',')}}`;
    const metadata = `{"__metadata__":{${Array.from({ length: 2 ** 16 + 1 }, (_, i) => `"${i}":""`).join(',')}}}`;
    expect(errorOf(() => read(safetensorsBytes(deep))).message).toContain("'['");
    expect(errorOf(() => read(safetensorsBytes(tensors))).message).toContain('more than 1048576 tensors');
    expect(errorOf(() => read(safetensorsBytes(metadata))).message).toContain(
      'more than 65536 metadata keys',
    );
  });

  it('with a header of zeros as long as the format allows', () => {
    const path = put(folder, 'zeros.safetensors', safetensorsBytes('{', 0, 100_000_000n));
    truncateSync(path, 200_000_000);
    expect(errorOf(() => readSafetensors(path)).code).toBe('ERR_FORMAT');
  });
});

describe('damage', () => {
  const header = { __metadata__: { format: 'pt' }, a: f32([2, 3], 0, 24), 'b.weight': f32([1], 24, 28) };
  const bytes = safetensorsBytes(header, 28);
  const readAll = (path: string) => expectSound(readSafetensors(path).tensors);

  it('at every length that a file can be cut to', () => {
    for (let length = 0; length < bytes.length; length++) {
      const path = put(folder, 'cut.safetensors', bytes.subarray(0, length));
      expect(
        readsOrRefuses(path, () => readAll(path)),
        `cut to ${length}`,
      ).toBe('refused');
    }
  });

  it('of every single bit of a header', () => {
    const headerBytes = bytes.length - 28;
    let refused = 0;
    for (let bit = 0; bit < headerBytes * 8; bit++) {
      const damaged = Buffer.from(bytes);
      damaged[bit >> 3] ^= 1 << (bit & 7);
      const path = put(folder, 'bit.safetensors', damaged);
      if (readsOrRefuses(path, () => readAll(path)) === 'refused') refused++;
    }
    expect(refused).toBeGreaterThan(headerBytes * 4);
  });

  // One file a folder is enough: they were written by the same library.
  const files = walkFiles(fixturesFolder, (name) => name.endsWith('.safetensors'));
  const sample = files.filter((file, i) => i === 0 || dirname(file) !== dirname(files[i - 1])).slice(0, 12);
  it.skipIf(sample.length === 0)('of real headers', () => {
    for (const file of sample) {
      const whole = readFileSync(file);
      const headerBytes = 8 + Number(whole.readBigUInt64LE());
      const json = fc.constantFrom(...Buffer.from('{}[]",:0129-.eEntfu\\ \u0000'));
      const damage = fc.record({
        at: fc.array(fc.nat(headerBytes - 1), { minLength: 1, maxLength: 4 }),
        byte: fc.oneof(json, fc.nat(255)),
        cut: fc.option(fc.nat(whole.length)),
      });
      fc.assert(
        fc.property(damage, ({ at, byte, cut }) => {
          const damaged = Buffer.from(whole.subarray(0, cut ?? whole.length));
          for (const place of at) if (place < damaged.length) damaged[place] = byte;
          const path = put(folder, 'damaged.safetensors', damaged);
          readsOrRefuses(path, () => readAll(path));
        }),
        { numRuns: 200, seed: 5 },
      );
    }
  });
});

describe('the writer', () => {
  const path = join(folder, 'written.safetensors');
  const write = async (tensors: TensorToWrite[], metadata?: Record<string, string>) => {
    await writeSafetensors(path, tensors, { metadata });
    return readSafetensors(path);
  };

  it('writes what the reader reads', async () => {
    const tensor = fc.record({
      name: fc.string({ unit: 'binary' }).filter((name) => name !== '__metadata__'),
      shape: fc.array(fc.nat(5), { maxLength: 4 }),
      make: fc.constantFrom<(count: number) => Float32Array | Uint8Array | BigInt64Array>(
        (count) => Float32Array.from({ length: count }, (_, i) => i / 3),
        (count) => Uint8Array.from({ length: count }, (_, i) => i),
        (count) => BigInt64Array.from({ length: count }, (_, i) => BigInt(i)),
      ),
    });
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(tensor, { selector: ({ name }) => name }), async (list) => {
        const tensors = list.map(({ name, shape, make }) => {
          return { name, shape, data: make(shape.reduce((a, b) => a * b, 1)) };
        });
        const file = await write(tensors, { format: 'pt' });
        expectSound(file.tensors);
        const bytes = readFileSync(path);
        expect([...file.tensors.names()]).toEqual(tensors.map(({ name }) => name));
        for (const { name, shape, data } of tensors) {
          const entry = file.tensors.require(name, shape);
          const stored = bytes.subarray(entry.offset, entry.offset + entry.bytes);
          expect(stored.equals(Buffer.from(data.buffer))).toBe(true);
        }
      }),
      { numRuns: 100, seed: 3 },
    );
  });

  it('writes formats that have no array of their own, parts of arrays, and data by function', async () => {
    const { tensors, metadata } = await write([
      { name: 'half', shape: [2], format: 'bf16', data: Uint16Array.of(1, 2) },
      { name: 'part', shape: [2], data: Float32Array.of(9, 8, 7, 6).subarray(1, 3) },
      { name: 'later', shape: [1], format: 'f64', data: async () => Float64Array.of(0.5) },
    ]);
    const bytes = readFileSync(path);
    expect(metadata.size).toBe(0);
    expect(tensors.get('half').format).toBe('bf16');
    const at = (name: string) => tensors.get(name).offset;
    expect(at('half') % 8).toBe(0);
    expect([bytes.readUInt16LE(at('half') + 2), bytes.readFloatLE(at('part'))]).toEqual([2, 8]);
    expect(bytes.readDoubleLE(at('later'))).toBe(0.5);
  });

  it.each<[string, TensorToWrite[], RegExp]>([
    [
      'a wrong size',
      [{ name: 'a', shape: [3], data: Float32Array.of(1) }],
      /got 4 bytes of data, expected 12/,
    ],
    [
      'a wrong size by function',
      [{ name: 'a', shape: [3], format: 'f32', data: () => Float32Array.of(1) }],
      /4 bytes/,
    ],
    [
      'a name twice',
      [
        { name: 'a', shape: [0], data: Float32Array.of() },
        { name: 'a', shape: [0], data: Float32Array.of() },
      ],
      /taken/,
    ],
    ['the name of the metadata', [{ name: '__metadata__', shape: [0], data: Float32Array.of() }], /taken/],
    ['a block format', [{ name: 'a', shape: [32], format: 'q8_0', data: new Uint8Array(34) }], /format q8_0/],
    [
      'data by function without a format',
      [{ name: 'a', shape: [1], data: () => Float32Array.of(1) }],
      /format undefined/,
    ],
  ])('refuses %s, and leaves the old file and nothing else', async (_, tensors, message) => {
    await write([{ name: 'old', shape: [1], data: Float32Array.of(1) }]);
    const before = readdirSync(folder);
    const error = await write(tensors).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(SwitchyardError);
    expect((error as SwitchyardError).message).toMatch(message);
    expect(readdirSync(folder)).toEqual(before);
    expect(readSafetensors(path).tensors.has('old')).toBe(true);
  });

  it('names the file when the system refuses', async () => {
    const error = await writeSafetensors(join(folder, 'none', 'x.safetensors'), []).catch(
      (error: unknown) => error,
    );
    expect((error as SwitchyardError).code).toBe('ERR_IO');
    expect((error as SwitchyardError).message).toMatch(/x\.safetensors\] got ENOENT/);
  });
});

describe.skipIf(fixturesFolder === undefined)('fixtures', () => {
  const files = walkFiles(fixturesFolder, (name) => name.endsWith('.safetensors'));
  it.each(files.map((path) => [`${basename(dirname(path))}/${basename(path)}`, path]))('%s', (_, path) => {
    const { tensors } = readSafetensors(path);
    expect(tensors.size).toBeGreaterThan(0);
    expectSound(tensors);
  });
});
