/** Writes a model as a GGUF file that llama.cpp and this project read. */
import { type GgufTensor, isGgufFormat, writeGguf } from '../../checkpoint/gguf-write.js';
import { type StorageFormat, storageFormats } from '../../checkpoint/tensor-file.js';
import { mismatch } from '../../core/errors.js';
import { isQuantized, isWeightFormat } from '../../core/format.js';
import { sizeOf } from '../../core/shape.js';
import { ggufTokenizerMetadata } from '../../text/gguf-tokenizer-write.js';
import { isFloatFormat } from './floats.js';
import { ggufForm } from './gguf-form.js';
import { WriteCount, type WrittenModel } from './model.js';
import type { WriteOptions } from './options.js';
import { PartValues } from './part-values.js';
import { tensorBytes } from './tensor-bytes.js';
import type { TensorPlan } from './tensor-plan.js';

/** @throws SwitchyardError ERR_UNSUPPORTED for a model, or a format of weights, that GGUF has no words for */
export async function writeGgufModel(
  path: string,
  model: WrittenModel,
  options: WriteOptions,
): Promise<void> {
  const { config, parameters, device, tokenizer } = model;
  const { metadata, plans, changes, divisors } = ggufForm(path, model, options);
  const values = new PartValues(device, parameters, changes);
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

/** Matrices that llama.cpp wants as f32, as it does vectors and routers. */
const EXACT = /(^|\.)(positions|token_types|shared_gate)\.weight$/;

function formatFor(plan: TensorPlan, values: PartValues, { dtype }: WriteOptions): StorageFormat {
  const { pieces, name } = plan;
  const exact = pieces.some(
    ({ part }) => part.kind === 'vector' || part.role === 'router' || EXACT.test(part.name),
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
