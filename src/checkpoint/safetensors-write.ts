import { mismatch } from '../core/errors.js';
import { Place, quoted } from './checked.js';
import { replaceFile, writeAll } from './replace-file.js';
import { safetensorsDtypes } from './safetensors.js';
import { type StorageFormat, storageBytes } from './tensor-file.js';

export type TensorData =
  | Float64Array
  | Float32Array
  | Uint8Array
  | Uint16Array
  | Uint32Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | BigUint64Array;

export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  /** The values, or a function that makes them when their turn to be written comes. */
  readonly data: TensorData | (() => TensorData | Promise<TensorData> | AsyncIterable<Uint8Array>);
  /** Default: the array's own type. Give it for f16 and bf16 (bits in a Uint16Array), bool, and data by function. */
  readonly format?: StorageFormat;
}

export interface WriteSafetensorsOptions {
  /** Strings for `__metadata__`. */
  readonly metadata?: Readonly<Record<string, string>>;
}

const dtypeOfFormat = new Map(Object.entries(safetensorsDtypes).map(([dtype, format]) => [format, dtype]));

const formatOfArray: Readonly<Record<string, StorageFormat>> = {
  Float64Array: 'f64',
  Float32Array: 'f32',
  Int8Array: 'i8',
  Int16Array: 'i16',
  Int32Array: 'i32',
  BigInt64Array: 'i64',
  Uint8Array: 'u8',
  Buffer: 'u8',
  Uint16Array: 'u16',
  Uint32Array: 'u32',
  BigUint64Array: 'u64',
};

/**
 * Writes tensors in the given order as one safetensors file. The file appears whole or not at all: everything goes to
 * a temporary file beside it, which is flushed and then renamed.
 * @throws SwitchyardError ERR_OPTION for tensors that do not fit their shape, ERR_IO where the system refuses.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  options: WriteSafetensorsOptions = {},
): Promise<void> {
  const list = [...tensors];
  const header = makeHeader(path, list, options.metadata);
  await replaceFile(path, async (file) => {
    await writeAll(file, header.bytes);
    for (const [i, tensor] of list.entries()) {
      const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
      let byteLength = 0;
      for await (const chunk of Symbol.asyncIterator in data ? data : [data]) {
        await writeAll(file, new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.byteLength));
        byteLength += chunk.byteLength;
      }
      checkSize(tensor.name, { byteLength }, header.sizes[i]);
    }
  });
}

function makeHeader(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> | undefined,
): { bytes: Buffer; sizes: number[] } {
  // A map, so that a tensor may be called __proto__.
  const members = new Map<string, string>();
  if (metadata !== undefined) members.set('__metadata__', JSON.stringify(metadata));
  const sizes: number[] = [];
  let end = 0;
  for (const { name, shape, data, format: given } of tensors) {
    const where = `writeSafetensors: tensor ${quoted(name)}`;
    if (members.has(name) || name === '__metadata__') {
      throw mismatch('ERR_OPTION', where, 'a name that is taken', 'each name once');
    }
    const format = given ?? formatOfArray[data.constructor.name];
    const dtype = dtypeOfFormat.get(format);
    if (dtype === undefined) {
      throw mismatch(
        'ERR_OPTION',
        where,
        `format ${format}`,
        `one of ${[...dtypeOfFormat.keys()].join(', ')}`,
      );
    }
    const place = new Place(path, `tensor ${quoted(name)}`);
    const bytes = storageBytes(place, shape, format);
    if (typeof data !== 'function') checkSize(name, data, bytes);
    const begin = end;
    end = place.add(begin, bytes, 'end');
    members.set(name, JSON.stringify({ dtype, shape, data_offsets: [begin, end] }));
    sizes.push(bytes);
  }
  const json = `{${[...members].map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`;
  // Padded with spaces, as the reference does, so that the data starts at a multiple of 8.
  const text = Buffer.from(json);
  const bytes = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8, ' ');
  bytes.writeBigUInt64LE(BigInt(bytes.length - 8), 0);
  text.copy(bytes, 8);
  return { bytes, sizes };
}

function checkSize(name: string, data: { byteLength: number }, bytes: number): void {
  if (data.byteLength === bytes) return;
  const where = `writeSafetensors: tensor ${quoted(name)}`;
  throw mismatch(
    'ERR_OPTION',
    where,
    `${data.byteLength} bytes of data`,
    `${bytes} for the shape and format`,
  );
}
