/** Writes a model as a Hugging Face folder that transformers and this project read. */
import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { Place } from '../../checkpoint/checked.js';
import { ioCode } from '../../checkpoint/file-reader.js';
import { type TensorToWrite, writeSafetensors } from '../../checkpoint/safetensors-write.js';
import { mismatch } from '../../core/errors.js';
import { sizeOf } from '../../core/shape.js';
import type { TokenizerFiles } from '../../text/tokenizer.js';
import { type NameTable, StoredNames } from '../read/names.js';
import { configOf, familyOf, stackTable } from '../registry.js';
import { allKeys, type ConfigJson, keysOf } from './config-json.js';
import { type FloatFormat, fitsFormat, floatBytes, isFloatFormat } from './floats.js';
import { WriteCount, type WrittenDecoder, type WrittenModel } from './model.js';
import { MAX_SHARD_BYTES, type WriteOptions } from './options.js';
import { type Differences, differences, PartValues } from './part-values.js';
import { checkSameModel } from './same-model.js';
import { tensorBytes } from './tensor-bytes.js';
import { planTensors, type TensorPlan } from './tensor-plan.js';

interface Described {
  readonly plan: TensorPlan;
  readonly format: FloatFormat;
}

/**
 * The folder appears whole or not at all.
 * @throws SwitchyardError ERR_IO for a folder that is there and not empty, ERR_UNSUPPORTED for a model that config.json has no
 *   words for
 */
export async function writeFolder(path: string, model: WrittenModel, options: WriteOptions): Promise<void> {
  const { device, parameters, parts } = model;
  const { text, table, changes } = describe(path, model);
  const plans = planTensors(parts, new StoredNames(table, parts, () => false));
  const values = new PartValues(device, parameters, changes);
  const dtype = options.dtype ?? commonFormat(plans, values);
  const described: Described[] = [];
  for (const plan of plans) described.push({ plan, format: await formatFor(plan, values, dtype, options) });
  await inNewFolder(resolve(path), async (folder) => {
    await writeTensors(folder, path, described, values, options);
    await writeFile(join(folder, 'config.json'), withDtype(text, dtype));
    const generation = model.source?.generationText;
    if (generation !== undefined) await writeFile(join(folder, 'generation_config.json'), generation);
    await writeTokenizer(folder, model.tokenizer.files);
    for (const [name, content] of model.source?.others ?? []) {
      await mkdir(dirname(join(folder, name)), { recursive: true });
      await writeFile(join(folder, name), content);
    }
  });
}

interface Description {
  /** Of config.json. */
  readonly text: string;
  readonly table: NameTable;
  readonly changes: Differences;
}

function describe(path: string, model: WrittenModel): Description {
  if (model.kind === 'decoder') return describeDecoder(path, model);
  const { source, config } = model;
  if (source === null)
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      `an ${model.kind} that came without a config.json`,
      'one with it',
    );
  return { text: source.configText, table: stackTable(source.config.model_type, config), changes: {} };
}

function describeDecoder(path: string, { config, source }: WrittenDecoder): Description {
  const family = familyOf(config.family);
  const table = family.huggingFaceNames(config);
  const described = (json: ConfigJson, text = configText(json)): Description => {
    const target = configOf(family, json, path);
    checkSameModel(path, config, target);
    return { text, table, changes: differences(config, target) };
  };
  if (source) return described({ ...source.config }, source.configText);
  const words = (biases: boolean): ConfigJson => ({
    model_type: family.modelType,
    ...neat(keysOf(family, { ...allKeys(config), attention_bias: biases }, path)),
  });
  const { queryKeyValueBias, outputBias } = config;
  try {
    return described(words(queryKeyValueBias));
  } catch (error) {
    // Families with biases by their nature have another key for these, and take attention_bias for the output's.
    if (queryKeyValueBias === outputBias) throw error;
    return described(words(outputBias));
  }
}

/** Float32 numbers by their shortest decimal: 1e-5 instead of 0.000009999999747378752. */
function neat(json: ConfigJson): ConfigJson {
  const short = (value: unknown): unknown => {
    if (typeof value !== 'number' || Number.isInteger(value)) return value;
    for (let digits = 1; digits < 17; digits++) {
      const rounded: number = Number(value.toPrecision(digits));
      if (rounded === value || (Math.fround(rounded) === value && Math.fround(value) === value))
        return rounded;
    }
    return value;
  };
  return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, short(value)]));
}

/** The format of most matrices, f32 where they are blocks. */
function commonFormat(plans: readonly TensorPlan[], values: PartValues): FloatFormat {
  const counts = new Map<FloatFormat, number>();
  for (const { pieces, shape } of plans) {
    const { part } = pieces[0]!;
    if (part.kind === 'vector') continue;
    const format = values.formatOf(part) ?? 'f32';
    const float = isFloatFormat(format) ? format : 'f32';
    counts.set(float, (counts.get(float) ?? 0) + sizeOf(shape));
  }
  return [...counts].sort((a, b) => b[1] - a[1])[0]?.[0] ?? 'f32';
}

/** Matrices keep their own float format; vectors, f32 in memory, take the common one where that holds them exactly. */
async function formatFor(
  { pieces }: TensorPlan,
  values: PartValues,
  common: FloatFormat,
  { dtype }: WriteOptions,
): Promise<FloatFormat> {
  if (dtype !== undefined) return dtype;
  const formats = new Set<FloatFormat>();
  for (const { part } of pieces) {
    if (part.kind === 'vector') formats.add(fitsFormat(await values.vector(part), common) ? common : 'f32');
    else {
      const format = values.formatOf(part) ?? 'f32';
      formats.add(isFloatFormat(format) ? format : 'f32');
    }
  }
  const [format = 'f32'] = formats;
  return formats.size === 1 ? format : 'f32';
}

const DTYPE_NAMES: Readonly<Record<FloatFormat, string>> = {
  f32: 'float32',
  f16: 'float16',
  bf16: 'bfloat16',
};

function withDtype(text: string, dtype: FloatFormat): string {
  const name = DTYPE_NAMES[dtype];
  const known = /("(?:torch_)?dtype"\s*:\s*)(?:"[^"]*"|null)/g;
  if (known.test(text)) return text.replace(known, `$1"${name}"`);
  return text.replace('{', `{\n  "torch_dtype": "${name}",`);
}

/** Keys whose values are floats for readers that tell 1.0 from 1. */
const FLOAT_KEYS =
  /("(?:rope_theta|factor|low_freq_factor|high_freq_factor|beta_fast|beta_slow|attention_factor|mscale|mscale_all_dim|clip_qkv|[a-z]+_multiplier|logits_scaling|routed_scaling_factor|router_jitter_noise|partial_rotary_factor)": -?\d+)(?=[,\n])/g;

const configText = (json: ConfigJson): string =>
  `${JSON.stringify(json, null, 2).replace(FLOAT_KEYS, '$1.0')}\n`;

async function writeTensors(
  folder: string,
  path: string,
  described: readonly Described[],
  values: PartValues,
  options: WriteOptions,
): Promise<void> {
  const sizeOfOne = ({ plan, format }: Described): number => sizeOf(plan.shape) * floatBytes[format];
  const total = described.reduce((sum, each) => sum + sizeOfOne(each), 0);
  const shards: Described[][] = [[]];
  let bytes = 0;
  for (const each of described) {
    const size = sizeOfOne(each);
    if (bytes > 0 && bytes + size > (options.maxShardBytes ?? MAX_SHARD_BYTES)) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)?.push(each);
    bytes += size;
  }
  const count = new WriteCount(path, total, options);
  const weightMap: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const name =
      shards.length === 1
        ? 'model.safetensors'
        : `model-${five(i + 1)}-of-${five(shards.length)}.safetensors`;
    const tensors = shard.map(({ plan, format }): TensorToWrite => {
      weightMap[plan.name] = name;
      return {
        name: plan.name,
        shape: plan.shape,
        format,
        data: () => count.counted(plan.name, tensorBytes(plan, values, format)),
      };
    });
    // transformers wants to know which library the tensors are for.
    await writeSafetensors(join(folder, name), tensors, { metadata: { format: 'pt' } });
  }
  if (shards.length > 1)
    await writeJson(folder, 'model.safetensors.index.json', {
      metadata: { total_size: total },
      weight_map: weightMap,
    });
}

const five = (n: number): string => String(n).padStart(5, '0');

async function writeTokenizer(folder: string, files: TokenizerFiles): Promise<void> {
  const { tokenizerJson, tokenizerConfig, specialTokensMap, chatTemplate } = files;
  // Other readers want the fields that say nothing, too.
  await writeJson(folder, 'tokenizer.json', {
    version: '1.0',
    truncation: null,
    padding: null,
    ...(tokenizerJson as object),
  });
  if (tokenizerConfig !== undefined) await writeJson(folder, 'tokenizer_config.json', tokenizerConfig);
  if (specialTokensMap !== undefined) await writeJson(folder, 'special_tokens_map.json', specialTokensMap);
  if (chatTemplate !== undefined) await writeFile(join(folder, 'chat_template.jinja'), chatTemplate);
}

const writeJson = (folder: string, name: string, value: unknown): Promise<void> =>
  writeFile(join(folder, name), `${JSON.stringify(value, null, 2)}\n`);

/** Fills a folder beside the one that is meant, which then takes its name. */
async function inNewFolder(path: string, fill: (folder: string) => Promise<void>): Promise<void> {
  const there = await readdir(path).catch(() => undefined);
  if (there !== undefined && there.length > 0)
    throw new Place(path).io('a folder with files in it', 'a new or empty one');
  const temporary = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.tmp`);
  try {
    await mkdir(temporary);
    await fill(temporary);
    if (there !== undefined) await rmdir(path);
    await rename(temporary, path);
  } catch (cause) {
    await rm(temporary, { recursive: true, force: true });
    if (!(cause instanceof Error) || !('syscall' in cause)) throw cause;
    throw new Place(path).io(ioCode(cause), 'a folder that can be written', { cause });
  }
}
