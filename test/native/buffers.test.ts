import { describe, expect, it } from 'vitest';
import { addon, type NativeBuffer } from '../../src/core/addon.js';
import { DisposedError, SwitchyardError } from '../../src/core/errors.js';
import { codeOf } from '../helpers/native.js';

const native = addon();

describe('createBuffer', () => {
  it.each([0, 1, 63, 64, 1000, 2 ** 20 + 1, 2 ** 31])('gives %i zero bytes', (bytes) => {
    const buffer = native.createBuffer(bytes);
    expect(native.bufferBytes(buffer)).toBe(bytes);
    const ends = new Uint8Array(Math.min(bytes, 100)).fill(7);
    native.readBuffer(buffer, ends, Math.max(0, bytes - 100));
    expect(ends.every((byte) => byte === 0)).toBe(true);
    native.disposeBuffer(buffer);
  });

  it('gives zeros where a freed buffer held something else', () => {
    for (let round = 0; round < 3; round++) {
      const buffer = native.createBuffer(5000);
      const bytes = new Uint8Array(5000).fill(1);
      native.readBuffer(buffer, bytes);
      expect(bytes.every((byte) => byte === 0)).toBe(true);
      native.writeBuffer(buffer, bytes.fill(9));
      native.disposeBuffer(buffer);
    }
  });

  it.each([NaN, Infinity, -1, 0.5, 2 ** 46 + 1, 2 ** 63, 1e300, '64', null, undefined, {}, 5n, Symbol('x')])(
    'refuses %s',
    async (bytes) => {
      expect(await codeOf(() => native.createBuffer(bytes as number))).toBe('ERR_OPTION');
    },
  );
});

describe('reading and writing', () => {
  const data = Float32Array.from([1, 2, 3, 4]);

  it('copies views with their offset and length', () => {
    const buffer = native.bufferFrom(data.subarray(1, 3));
    const back = new DataView(new ArrayBuffer(12), 4);
    native.readBuffer(buffer, back);
    expect([back.getFloat32(0, true), back.getFloat32(4, true)]).toEqual([2, 3]);
    native.writeBuffer(buffer, Float32Array.of(9), 4);
    const all = new Float32Array(2);
    native.readBuffer(buffer, all, 0);
    expect([...all]).toEqual([2, 9]);
    native.readBuffer(buffer, new Uint8Array(0), 8);
  });

  it.each([
    ['a longer view', 0, 17],
    ['an offset past the end', 17, 0],
    ['a view over the end', 10, 7],
    ['an offset that would wrap', Number.MAX_SAFE_INTEGER, 4],
  ])('refuses %s', async (_, offset, length) => {
    const buffer = native.bufferFrom(data);
    expect(await codeOf(() => native.readBuffer(buffer, new Uint8Array(length), offset))).toBe('ERR_SHAPE');
    expect(await codeOf(() => native.writeBuffer(buffer, new Uint8Array(length), offset))).toBe('ERR_SHAPE');
  });

  it.each([-1, NaN, 0.5, '0', null])('refuses offset %s', async (offset) => {
    const buffer = native.bufferFrom(data);
    expect(await codeOf(() => native.readBuffer(buffer, new Uint8Array(1), offset as number))).toBe(
      'ERR_OPTION',
    );
  });

  it.each([undefined, null, 'bytes', 7, [1, 2], new ArrayBuffer(4)])('refuses %s as bytes', async (view) => {
    const buffer = native.bufferFrom(data);
    expect(await codeOf(() => native.bufferFrom(view as unknown as Uint8Array))).toBe('ERR_OPTION');
    expect(await codeOf(() => native.writeBuffer(buffer, view as unknown as Uint8Array))).toBe('ERR_OPTION');
  });

  it('sees a detached view as empty', () => {
    const gone = new Uint8Array(8);
    structuredClone(gone.buffer, { transfer: [gone.buffer] });
    expect(native.bufferBytes(native.bufferFrom(gone))).toBe(0);
  });
});

describe('a part', () => {
  it('is the memory of its buffer, and keeps it', () => {
    const whole = native.createBuffer(200);
    const part = native.partOfBuffer(native.partOfBuffer(whole, 64, 128), 64, 8);
    native.writeBuffer(whole, Int32Array.of(5, 6), 128);
    native.disposeBuffer(whole);
    const words = new Int32Array(2);
    native.readBuffer(part, words);
    expect([...words]).toEqual([5, 6]);
    expect(native.bufferBytes(part)).toBe(8);
  });

  it.each([
    [1, 8],
    [-64, 8],
    [64, 137],
    [256, 0],
    [64, -1],
    [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
  ])('refuses bytes from %i on, %i of them, of 200', async (offset, bytes) => {
    const code = await codeOf(() => native.partOfBuffer(native.createBuffer(200), offset, bytes));
    expect(code).toBe(offset < 0 || bytes < 0 ? 'ERR_OPTION' : 'ERR_SHAPE');
  });
});

describe('handles', () => {
  it('may be disposed twice, and nothing else after', async () => {
    const buffer = native.createBuffer(8);
    native.disposeBuffer(buffer);
    native.disposeBuffer(buffer);
    const uses = [
      () => native.bufferBytes(buffer),
      () => native.readBuffer(buffer, new Uint8Array(1)),
      () => native.writeBuffer(buffer, new Uint8Array(1)),
      () => native.createProgram(new Uint8Array(), [buffer], []),
    ];
    for (const use of uses) {
      expect(use).toThrow(DisposedError);
      expect(await codeOf(use)).toBe('ERR_DISPOSED');
    }
  });

  it('are told apart from everything else', () => {
    const runtime = native.createRuntime({ threads: 1 });
    const others = [
      {},
      [],
      null,
      undefined,
      1,
      'x',
      runtime,
      native.createAbort(),
      new Proxy(native.createBuffer(1), {}),
    ];
    for (const other of others) {
      const use = () => native.bufferBytes(other as NativeBuffer);
      expect(use).toThrow(SwitchyardError);
      expect(use).toThrow(/\[buffer\] got .*, expected a buffer/);
    }
    const inherits = Object.create(native.createBuffer(1)) as NativeBuffer;
    expect(() => native.bufferBytes(inherits)).toThrow('expected a buffer');
    native.disposeRuntime(runtime);
  });
});

describe('memory', () => {
  it('is counted', () => {
    const before = native.memoryUsage();
    const size = 50 * 2 ** 20;
    const buffers = [size, size, 1000].map((bytes) => native.createBuffer(bytes));
    const during = native.memoryUsage();
    expect(during.buffers - before.buffers).toBe(2 * size + 1000);
    expect(during.reported - before.reported).toBe(2 * size);
    for (const buffer of buffers) native.disposeBuffer(buffer);
    expect(native.memoryUsage()).toEqual(before);
  });

  it('that nobody disposes is collected', async () => {
    const before = native.memoryUsage().buffers;
    const data = new Uint8Array(8 * 2 ** 20);
    let most = 0;
    for (let i = 0; i < 500; i++) {
      native.bufferFrom(data);
      await new Promise(setImmediate);
      most = Math.max(most, native.memoryUsage().buffers - before);
    }
    // 4 GB were made: had the collector not been told, all would still be there.
    expect(most).toBeLessThan(2 ** 30);
  });
});

describe('deviceInfo', () => {
  it('names the machine', () => {
    const info = native.deviceInfo();
    expect(info.cpu).not.toBe('');
    expect(info.cores).toBeGreaterThan(0);
    expect(info.tiers[0]).toBe('scalar');
    expect(info.tiers.at(-1)).toBe(info.bestTier);
    expect(info.pageSize % 1024).toBe(0);
  });
});
