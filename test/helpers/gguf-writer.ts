// Writes GGUF files for tests. It checks nothing, so that hostile files can be made: any number may be a bigint that
// the format forbids, counts may lie, and bytes may stand in for a value.

export type MetadataToWrite =
  | { type: 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'f64'; value: number }
  | { type: 'u64' | 'i64'; value: bigint }
  | { type: 'bool'; value: boolean | number }
  | { type: 'string'; value: string | Uint8Array; declaredLength?: bigint }
  | { type: 'array'; element: string | number; items: MetadataToWrite[]; declaredLength?: bigint }
  | { type: 'raw'; typeNumber: number; bytes: Uint8Array };

export interface GgufTensorToWrite {
  name: string | Uint8Array;
  /** Innermost first, as in the file. */
  dims: (number | bigint)[];
  declaredRank?: number;
  type: number;
  /** From the start of the data; default: after the tensor before, aligned. */
  offset?: bigint;
  data?: Uint8Array;
}

export interface GgufToWrite {
  magic?: string;
  version?: number;
  alignment?: number;
  metadata?: [key: string | Uint8Array, value: MetadataToWrite][];
  tensors?: GgufTensorToWrite[];
  declaredTensors?: bigint;
  declaredKeys?: bigint;
}

const typeNumbers = [
  'u8',
  'i8',
  'u16',
  'i16',
  'u32',
  'i32',
  'f32',
  'bool',
  'string',
  'array',
  'u64',
  'i64',
  'f64',
];

/** The bytes of a GGUF file. */
export function ggufBytes(file: GgufToWrite): Buffer {
  const { alignment = 32, metadata = [], tensors = [] } = file;
  const parts: Buffer[] = [
    Buffer.from(file.magic ?? 'GGUF', 'latin1'),
    u32(file.version ?? 3),
    u64(file.declaredTensors ?? BigInt(tensors.length)),
    u64(file.declaredKeys ?? BigInt(metadata.length)),
  ];
  for (const [key, value] of metadata) parts.push(text(key), u32(typeNumber(value)), valueBytes(value));
  const data: Buffer[] = [];
  let dataBytes = 0;
  for (const tensor of tensors) {
    parts.push(text(tensor.name), u32(tensor.declaredRank ?? tensor.dims.length));
    for (const dim of tensor.dims) parts.push(u64(BigInt(dim)));
    parts.push(u32(tensor.type), u64(tensor.offset ?? BigInt(dataBytes)));
    const bytes = padded(Buffer.from(tensor.data ?? []), alignment);
    data.push(bytes);
    dataBytes += bytes.length;
  }
  return Buffer.concat([padded(Buffer.concat(parts), alignment), ...data]);
}

function typeNumber(value: MetadataToWrite): number {
  return value.type === 'raw' ? value.typeNumber : typeNumbers.indexOf(value.type);
}

function valueBytes(value: MetadataToWrite): Buffer {
  const bytes = Buffer.alloc(8);
  switch (value.type) {
    case 'u8':
      return bytes.subarray(0, bytes.writeUInt8(value.value));
    case 'i8':
      return bytes.subarray(0, bytes.writeInt8(value.value));
    case 'u16':
      return bytes.subarray(0, bytes.writeUInt16LE(value.value));
    case 'i16':
      return bytes.subarray(0, bytes.writeInt16LE(value.value));
    case 'u32':
      return bytes.subarray(0, bytes.writeUInt32LE(value.value));
    case 'i32':
      return bytes.subarray(0, bytes.writeInt32LE(value.value));
    case 'f32':
      return bytes.subarray(0, bytes.writeFloatLE(value.value));
    case 'f64':
      return bytes.subarray(0, bytes.writeDoubleLE(value.value));
    case 'u64':
      return bytes.subarray(0, bytes.writeBigUInt64LE(value.value));
    case 'i64':
      return bytes.subarray(0, bytes.writeBigInt64LE(value.value));
    case 'bool':
      return bytes.subarray(0, bytes.writeUInt8(Number(value.value)));
    case 'string':
      return text(value.value, value.declaredLength);
    case 'raw':
      return Buffer.from(value.bytes);
    case 'array': {
      const element = typeof value.element === 'number' ? value.element : typeNumbers.indexOf(value.element);
      const length = value.declaredLength ?? BigInt(value.items.length);
      return Buffer.concat([u32(element), u64(length), ...value.items.map(valueBytes)]);
    }
  }
}

function text(value: string | Uint8Array, declaredLength?: bigint): Buffer {
  const bytes = Buffer.from(value as string);
  return Buffer.concat([u64(declaredLength ?? BigInt(bytes.length)), bytes]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(value);
  return bytes;
}

function padded(bytes: Buffer, alignment: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((alignment - (bytes.length % alignment)) % alignment)]);
}
