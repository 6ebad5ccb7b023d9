import type { FileHandle } from 'node:fs/promises';
import { mismatch } from '../core/errors.js';
import { Place, quoted } from './checked.js';
import { ggufMagic, ggufTensorTypes } from './gguf.js';
import { replaceFile, writeAll } from './replace-file.js';
import { type StorageFormat, storageBytes } from './tensor-file.js';

/** Numbers are u32 where they are whole and f32 else; `{ f32 }` is a float that may be whole; typed arrays keep their type. */
export type GgufValueToWrite =
  | string
  | number
  | boolean
  | { readonly f32: number }
  | readonly string[]
  | Int32Array
  | Float32Array
  | Uint8Array;

export interface GgufTensor {
  readonly name: string;
  /** Outermost dimension first, as everywhere here; the file has the reverse. */
  readonly shape: readonly number[];
  readonly format: StorageFormat;
  /** The bytes, when their turn to be written comes. */
  readonly chunks: () => AsyncIterable<Uint8Array>;
}

const VERSION = 3;
const ALIGNMENT = 32;
const typeOfFormat = new Map(Object.entries(ggufTensorTypes).map(([type, format]) => [format, Number(type)]));

/** The formats that GGUF has a number for. */
export const isGgufFormat = (format: string): boolean => typeOfFormat.has(format as StorageFormat);

/**
 * Writes a GGUF file, version 3. It appears whole or not at all.
 * @throws SwitchyardError ERR_OPTION for tensors that do not fit their shape, ERR_IO where the system refuses
 */
export async function writeGguf(
  path: string,
  metadata: ReadonlyMap<string, GgufValueToWrite>,
  tensors: readonly GgufTensor[],
): Promise<void> {
  const sizes = tensors.map((tensor) => bytesOf(path, tensor));
  const header = headerOf(metadata, tensors, sizes);
  await replaceFile(path, async (file) => {
    await writeAll(file, header);
    for (const [i, tensor] of tensors.entries()) {
      await writeTensor(file, tensor, sizes[i]);
      await writeAll(file, Buffer.alloc(padding(sizes[i])));
    }
  });
}

function bytesOf(path: string, { name, shape, format }: GgufTensor): number {
  if (!isGgufFormat(format)) {
    throw mismatch(
      'ERR_OPTION',
      `writeGguf: tensor ${quoted(name)}`,
      `format ${format}`,
      'one that GGUF has',
    );
  }
  return storageBytes(new Place(path, `tensor ${quoted(name)}`), shape, format);
}

async function writeTensor(file: FileHandle, { name, chunks }: GgufTensor, bytes: number): Promise<void> {
  let written = 0;
  for await (const chunk of chunks()) {
    await writeAll(file, chunk);
    written += chunk.length;
  }
  if (written !== bytes) {
    throw mismatch('ERR_OPTION', `writeGguf: tensor ${quoted(name)}`, `${written} bytes`, `${bytes}`);
  }
}

const padding = (bytes: number): number => (ALIGNMENT - (bytes % ALIGNMENT)) % ALIGNMENT;

function headerOf(
  metadata: ReadonlyMap<string, GgufValueToWrite>,
  tensors: readonly GgufTensor[],
  sizes: readonly number[],
): Buffer {
  const parts = [Buffer.from(ggufMagic, 'latin1'), u32(VERSION), u64(tensors.length), u64(metadata.size)];
  for (const [key, value] of metadata) parts.push(text(key), ...valueBytes(value));
  let offset = 0;
  for (const [i, { name, shape, format }] of tensors.entries()) {
    parts.push(text(name), u32(shape.length));
    for (const size of shape.toReversed()) parts.push(u64(size));
    parts.push(u32(typeOfFormat.get(format)!), u64(offset));
    offset += sizes[i] + padding(sizes[i]);
  }
  const header = Buffer.concat(parts);
  return Buffer.concat([header, Buffer.alloc(padding(header.length))]);
}

/** Numbers of value types in the file. */
const TYPES = { u8: 0, u32: 4, i32: 5, f32: 6, bool: 7, string: 8, array: 9 } as const;

function valueBytes(value: GgufValueToWrite): Buffer[] {
  if (typeof value === 'string') return [u32(TYPES.string), text(value)];
  if (typeof value === 'boolean') return [u32(TYPES.bool), Buffer.from([value ? 1 : 0])];
  if (typeof value === 'number') {
    return Number.isInteger(value) && value >= 0
      ? [u32(TYPES.u32), u32(value)]
      : [u32(TYPES.f32), f32(value)];
  }
  if ('f32' in value) return [u32(TYPES.f32), f32(value.f32)];
  if (value instanceof Uint8Array) return array(TYPES.u8, value);
  if (value instanceof Int32Array) return array(TYPES.i32, value);
  if (value instanceof Float32Array) return array(TYPES.f32, value);
  return [u32(TYPES.array), u32(TYPES.string), u64(value.length), ...value.map(text)];
}

const array = (type: number, values: Uint8Array | Int32Array | Float32Array): Buffer[] => [
  u32(TYPES.array),
  u32(type),
  u64(values.length),
  Buffer.from(values.buffer, values.byteOffset, values.byteLength),
];

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}
