/** What the headers of a model's files tell: parameters, formats, memory. Nothing is loaded. */
import type { Quantization } from '../checkpoint/quantization.js';
import { fileBytes, type TensorEntry } from '../checkpoint/tensor-file.js';
import {
  automaticKvType,
  isQuantized,
  isWeightFormat,
  type KvType,
  type WeightFormat,
} from '../core/format.js';
import {
  cacheBytesPerToken,
  estimateMemory,
  type MatrixSize,
  type MemoryEstimate,
} from '../inspect/memory.js';
import { type ParameterCount, type Role, sumParameters } from '../inspect/parameters.js';
import type { Part } from '../models/decoder/parameters.js';
import type { AnyFiles } from '../models/family.js';
import { packedFormat } from '../models/read/packed-format.js';
import { activeShare, cachedOf } from '../models/stacks.js';
import { KV_BLOCK } from '../nn/kv-blocks.js';

export interface FormatUse {
  readonly format: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
}

export interface ModelReport {
  /** By the formula of the config. */
  readonly parameters: ParameterCount;
  /** By the tensors of the file; must be the same numbers. Null where there are no weights. */
  readonly counted: ParameterCount | null;
  readonly agree: boolean | null;
  /** Tensors that are no part of the model. */
  readonly extra: readonly string[];
  readonly formats: readonly FormatUse[];
  readonly fileBytes: number;
  /** How the cache stores keys and values. */
  readonly kvCache: KvType;
  readonly cacheBytesPerToken: number;
  /** Of a text that a decoder attends over, each token; 0 without an encoder. */
  readonly memoryBytesPerToken: number;
  readonly contextLength: number;
  /** Null where a tensor's format cannot be loaded. */
  readonly memory: MemoryEstimate | null;
}

/**
 * @param contextLength tokens for the memory estimate
 * @param kind as the option `kvCache` of `loadModel`
 */
export function reportModel(
  files: AnyFiles,
  contextLength: number,
  kind: 'auto' | KvType = 'auto',
): ModelReport {
  const { config, checkpoint, parts } = files;
  const { tensors } = checkpoint;
  const { used, extra, matrices } = tensors.size === 0 ? plannedOf(files) : foundOf(files);
  const count = (sized: Iterable<{ role: Role; shape: readonly number[] }>): ParameterCount =>
    sumParameters(sized, activeShare(config), config.tiedEmbeddings);
  const parameters = count(parts);
  const counted = used && count(used);
  const compute = matrices?.some((m) => isQuantized(m.format)) ? 'int8' : 'f32';
  const kvCache = kind === 'auto' ? automaticKvType(compute) : kind;
  const { own, memory } = cachedOf(files);
  return {
    parameters,
    counted,
    agree: counted && parameters.total === counted.total && parameters.active === counted.active,
    extra,
    formats: formatsOf(tensors),
    fileBytes: [...tensors].reduce((sum, entry) => sum + fileBytes(entry), 0),
    kvCache,
    cacheBytesPerToken: cacheBytesPerToken(own, kvCache),
    memoryBytesPerToken: cacheBytesPerToken(memory, kvCache),
    contextLength,
    memory: matrices && estimateMemory(matrices, [...own, ...memory], kvCache, contextLength, KV_BLOCK),
  };
}

interface Found {
  readonly used: { role: Role; shape: readonly number[] }[] | null;
  readonly extra: string[];
  /** Null where a format cannot be loaded. */
  readonly matrices: MatrixSize[] | null;
}

const CONFIG_FORMATS: ReadonlyMap<unknown, WeightFormat> = new Map<unknown, WeightFormat>([
  ['float32', 'f32'],
  ['float16', 'f16'],
]);

/** What published checkpoints quantise. */
const QUANTIZED: Readonly<Record<Quantization['method'], { format: WeightFormat; roles: readonly Role[] }>> =
  {
    mxfp4: { format: 'mxfp4', roles: ['experts'] },
    float8: { format: 'f8_e4m3', roles: ['attention', 'feedForward', 'experts'] },
  };

/** The matrices that a config without weights means, in the format that it names, else bf16. */
function plannedOf({ parts, checkpoint }: AnyFiles): Found {
  const folder = checkpoint.kind === 'huggingface' ? checkpoint : null;
  const usual = CONFIG_FORMATS.get(folder?.config.dtype ?? folder?.config.torch_dtype) ?? 'bf16';
  const quantized = folder?.quantization && QUANTIZED[folder.quantization.method];
  const formatOf = ({ role }: Part): WeightFormat =>
    quantized?.roles.includes(role) ? quantized.format : usual;
  const matrices = parts.flatMap((part) => (part.kind === 'matrix' ? [sizeOf(part, formatOf(part))] : []));
  return { used: null, extra: [], matrices };
}

function sizeOf({ shape }: Part, format: WeightFormat): MatrixSize {
  const [columns = 1, rows = 1, experts = 1] = [...shape].reverse();
  return { format, experts, rows, columns };
}

function foundOf({ parts, names, checkpoint: { tensors } }: AnyFiles): Found {
  const seen = new Map<string, Role>();
  const matrices: MatrixSize[] = [];
  let packable = true;
  for (const part of parts) {
    const stored = names?.tensorsOf(part) ?? [part.name];
    for (const name of stored) seen.set(tensors.get(name).name, part.role);
    if (part.kind === 'vector') continue;
    const { format } = tensors.get(stored[0] as string);
    // all experts of a stack are packed alike
    const changed = [...(names?.placesOf(part) ?? [])]
      .map((place) => packedFormat(tensors.get(place.tensor), place, part.shape.at(-1) as number))
      .find((packed) => packed !== format);
    if (isWeightFormat(format)) matrices.push(sizeOf(part, changed ?? format));
    else packable = false;
  }
  const used: { role: Role; shape: readonly number[] }[] = [];
  const extra: string[] = [];
  for (const entry of tensors) {
    const role = seen.get(entry.name);
    if (role) used.push({ role, shape: entry.shape });
    else extra.push(entry.name);
  }
  return { used, extra, matrices: packable ? matrices : null };
}

function formatsOf(tensors: Iterable<TensorEntry>): FormatUse[] {
  const uses = new Map<string, { tensors: number; parameters: number; bytes: number }>();
  for (const { format, shape, bytes } of tensors) {
    const use = uses.get(format) ?? { tensors: 0, parameters: 0, bytes: 0 };
    use.tensors++;
    use.parameters += shape.reduce((n, size) => n * size, 1);
    use.bytes += bytes;
    uses.set(format, use);
  }
  return [...uses].map(([format, use]) => ({ format, ...use })).sort((a, b) => b.bytes - a.bytes);
}
