/** Writes a decoder as a GGUF file that llama.cpp and this project read. */
import { GgufMetadata } from '../../checkpoint/gguf-metadata.js';
import {
  type GgufTensor,
  type GgufValueToWrite,
  isGgufFormat,
  writeGguf,
} from '../../checkpoint/gguf-write.js';
import { type StorageFormat, storageFormats, TensorTable } from '../../checkpoint/tensor-file.js';
import { mismatch, SwitchyardError } from '../../core/errors.js';
import { isQuantized, isWeightFormat } from '../../core/format.js';
import { sizeOf } from '../../core/shape.js';
import { ggufTokenizerMetadata } from '../../text/gguf-tokenizer-write.js';
import type { DecoderConfig } from '../config.js';
import type { Family } from '../family.js';
import { ggufConfig } from '../gguf.js';
import { ggufNames } from '../gguf-names.js';
import { sayable, scalingTensors } from '../gguf-rope.js';
import { StoredNames } from '../names.js';
import { familyOf } from '../registry.js';
import { isFloatFormat } from './floats.js';
import { ggufMetadata } from './gguf-config.js';
import { WriteCount, type WrittenDecoder } from './model.js';
import type { WriteOptions } from './options.js';
import { differences, PartValues } from './part-values.js';
import { checkSameModel } from './same-model.js';
import { tensorBytes } from './tensor-bytes.js';
import { planTensors, type TensorPlan } from './tensor-plan.js';

/** @throws SwitchyardError ERR_UNSUPPORTED for a model, or a format of weights, that GGUF has no words for */
export async function writeGgufModel(
  path: string,
  model: WrittenDecoder,
  options: WriteOptions,
): Promise<void> {
  const { config, parts, parameters, device, tokenizer } = model;
  const family = familyOf(config.family);
  if (family.ggufArchitecture === undefined)
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      `a model of the family ${config.family}`,
      'one that GGUF has an architecture for',
    );
  const metadata = said(path, () => ggufMetadata(config, family));
  const table = [...(family.ggufNames ?? []), ...ggufNames];
  const plans = planTensors(parts, new StoredNames(table, parts, () => false));
  const divisors = scalingTensors(config);
  const names = [...plans.map(({ name }) => name), ...divisors.keys()];
  const target = said(path, () => readBack(path, metadata, family, names));
  checkSameModel(path, withDivisors(config, divisors), withDivisors(target, divisors));
  const values = new PartValues(device, parameters, differences(config, target));
  const described = plans.map((plan) => ({ plan, format: formatFor(plan, values, options) }));
  for (const [key, value] of ggufTokenizerMetadata(tokenizer, config.vocabSize)) metadata.set(key, value);
  if (described.some(({ format }) => isWeightFormat(format) && isQuantized(format)))
    metadata.set('general.quantization_version', 2);
  const total = described.reduce((sum, { plan, format }) => sum + bytesOf(plan, format), 0);
  const count = new WriteCount(path, total, options);
  const tensors = described.map(
    ({ plan, format }): GgufTensor => ({
      name: plan.name,
      shape: plan.shape,
      format,
      chunks: () => count.counted(plan.name, tensorBytes(plan, values, format)),
    }),
  );
  for (const [name, divisor] of divisors) tensors.push(vectorOf(name, divisor));
  await writeGguf(path, metadata, tensors);
}

/** What the config cannot be put in words for, or not be read back from, is not supported. */
function said<T>(path: string, put: () => T): T {
  try {
    return put();
  } catch (cause) {
    if (!(cause instanceof SwitchyardError) || cause.code === 'ERR_UNSUPPORTED') throw cause;
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      'a model that GGUF metadata does not describe',
      'one that it does',
      { cause },
    );
  }
}

/** Divisors are compared as such: a file does not tell how they came about. */
function withDivisors(config: DecoderConfig, divisors: ReadonlyMap<string, Float32Array>): DecoderConfig {
  const { rope } = config;
  return rope === null ? config : { ...config, rope: { ...rope, scaling: sayable(rope.scaling, divisors) } };
}

function readBack(
  path: string,
  values: ReadonlyMap<string, GgufValueToWrite>,
  family: Family,
  names: readonly string[],
): DecoderConfig {
  const typed = [...values].map(([key, value]): [string, ReturnType<typeof typedValue>] => [
    key,
    typedValue(value),
  ]);
  const tensors = new TensorTable(
    path,
    names.map((name) => ({ name, shape: [], format: 'f32', path, offset: 0, bytes: 0 })),
  );
  const metadata = new GgufMetadata(path, new Map(typed));
  return ggufConfig({ kind: 'gguf', path, metadata, tensors } as Parameters<typeof ggufConfig>[0], family);
}

function typedValue(value: GgufValueToWrite) {
  if (typeof value === 'string') return { type: 'string' as const, value };
  if (typeof value === 'boolean') return { type: 'bool' as const, value };
  if (typeof value === 'number') return { type: 'u32' as const, value };
  if ('f32' in value) return { type: 'f32' as const, value: Math.fround(value.f32) };
  throw mismatch('ERR_UNSUPPORTED', 'save', 'a list in the config', 'single values');
}

/** llama.cpp wants vectors, routers and positions as f32. */
function formatFor(plan: TensorPlan, values: PartValues, { dtype }: WriteOptions): StorageFormat {
  const { pieces, name } = plan;
  const exact = pieces.some(
    ({ part }) => part.kind === 'vector' || part.role === 'router' || part.name === 'positions.weight',
  );
  if (exact) return 'f32';
  const formats = new Set(pieces.map(({ part }) => values.formatOf(part)));
  const [format] = formats;
  if (dtype !== undefined && (formats.size > 1 || format === undefined || isFloatFormat(format)))
    return dtype;
  if (formats.size > 1 && [...formats].every((each) => each !== undefined && isFloatFormat(each)))
    return 'f32';
  if (formats.size === 1 && format !== undefined && isGgufFormat(format)) return format;
  throw mismatch(
    'ERR_UNSUPPORTED',
    name,
    `weights of ${formats.size === 1 ? 'a format' : 'formats'} that GGUF has not`,
    'one that it has',
    {
      hint: "the option dtype ('--dtype f16') writes them as floats",
    },
  );
}

function bytesOf({ shape }: TensorPlan, format: StorageFormat): number {
  const { valuesPerBlock, bytesPerBlock } = storageFormats[format];
  return (sizeOf(shape) / valuesPerBlock) * bytesPerBlock;
}

const vectorOf = (name: string, values: Float32Array): GgufTensor => ({
  name,
  shape: [values.length],
  format: 'f32',
  async *chunks() {
    yield new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  },
});
