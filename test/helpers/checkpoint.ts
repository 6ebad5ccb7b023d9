import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect } from 'vitest';
import { type StorageFormat, storageFormats, type TensorTable } from '../../src/checkpoint/tensor-file.js';
import { SwitchyardError } from '../../src/core/errors.js';

/** A folder that goes when the test file ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-test-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Bytes of a safetensors file with this header text and this much data. */
export function safetensorsBytes(
  header: string | object | Uint8Array,
  dataBytes = 0,
  declared?: bigint,
): Buffer {
  const text =
    header instanceof Uint8Array
      ? Buffer.from(header)
      : Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(declared ?? BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(dataBytes)]);
}

/** Every tensor's bytes lie inside its file, and there are as many as shape and format say. */
export function expectSound(tensors: TensorTable): void {
  const sizes = new Map<string, number>();
  for (const { path, offset, bytes, shape, format } of tensors) {
    const size = sizes.get(path) ?? statSync(path).size;
    sizes.set(path, size);
    const { valuesPerBlock, bytesPerBlock } = storageFormats[format as StorageFormat];
    const count = shape.reduce((product, dim) => product * BigInt(dim), 1n);
    const sound =
      Number.isSafeInteger(offset) &&
      offset >= 0 &&
      offset + bytes <= size &&
      count * BigInt(bytesPerBlock) === BigInt(bytes) * BigInt(valuesPerBlock);
    if (!sound) expect({ path, offset, bytes, shape, format, size }).toBe('inside the file');
  }
}

/** `read` either succeeds or throws the typed error that names the file; anything else fails the test. */
export function readsOrRefuses(file: string, read: () => unknown): 'read' | 'refused' {
  try {
    read();
    return 'read';
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    expect(['ERR_FORMAT', 'ERR_IO']).toContain(error.code);
    expect(error.message).toContain(file);
    return 'refused';
  }
}

/** The typed error that `act` throws. */
export function errorOf(act: () => unknown): SwitchyardError {
  try {
    act();
  } catch (error) {
    expect(error).toBeInstanceOf(SwitchyardError);
    return error as SwitchyardError;
  }
  throw new Error('nothing was thrown');
}

/** Writes `bytes` to `name` in `folder` and returns the path. */
export function put(folder: string, name: string, bytes: Uint8Array | string): string {
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}
