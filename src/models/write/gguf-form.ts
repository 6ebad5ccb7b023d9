/** How a GGUF file says what a model is: metadata that reads back as the same model, and the tensors it needs. */
import { GgufMetadata, type GgufValue } from '../../checkpoint/gguf-metadata.js';
import type { GgufValueToWrite } from '../../checkpoint/gguf-write.js';
import { TensorTable } from '../../checkpoint/tensor-file.js';
import { mismatch, SwitchyardError } from '../../core/errors.js';
import type { DecoderConfig } from '../decoder/config.js';
import type { Part } from '../decoder/parameters.js';
import type { StackGguf } from '../family.js';
import { ggufConfig } from '../gguf/config.js';
import type { GgufValues } from '../gguf/keys.js';
import { ggufNames } from '../gguf/names.js';
import { sayable, scalingTensors } from '../gguf/rope.js';
import { type NameTable, StoredNames } from '../read/names.js';
import { familyOf, ggufFamily, ggufStackConfig, stackFamilyOf } from '../registry.js';
import { encoderParts } from '../stacks/encoder.js';
import { poolingValues } from '../stacks/pooling.js';
import type { EncoderConfig } from '../stacks/stack-config.js';
import { ggufMetadata } from './gguf-config.js';
import type { WrittenDecoder, WrittenEncoder, WrittenEncoderDecoder, WrittenModel } from './model.js';
import type { WriteOptions } from './options.js';
import { type Differences, differences } from './part-values.js';
import { checkSame, checkSameModel } from './same-model.js';
import { planTensors, type TensorPlan } from './tensor-plan.js';

export interface GgufForm {
  readonly metadata: GgufValues;
  readonly plans: readonly TensorPlan[];
  /** How values in the file differ from those in memory. */
  readonly changes: Differences;
  /** Tensors that no part of the model is, by name. */
  readonly divisors: ReadonlyMap<string, Float32Array>;
}

/** @throws SwitchyardError ERR_UNSUPPORTED for a model that GGUF has no words for */
export function ggufForm(path: string, model: WrittenModel, options: WriteOptions): GgufForm {
  if (options.dropHead && model.kind !== 'encoder')
    throw mismatch('ERR_OPTION', 'save', `dropHead for a ${model.kind}`, 'an encoder');
  return model.kind === 'decoder' ? decoderForm(path, model) : stackForm(path, model, options);
}

const planned = (table: NameTable, parts: readonly Part[]): TensorPlan[] =>
  planTensors(parts, new StoredNames(table, parts, () => false));

function decoderForm(path: string, { config, parts }: WrittenDecoder): GgufForm {
  const family = familyOf(config.family);
  if (family.ggufArchitecture === undefined) throw withoutArchitecture(path, config.family);
  const metadata = said(path, () => ggufMetadata(config, family));
  const plans = planned([...(family.ggufNames ?? []), ...ggufNames], parts);
  const divisors = scalingTensors(config);
  const tensors = tableOf(path, [...plans.map(({ name }) => name), ...divisors.keys()]);
  const target = said(path, () => {
    const read = asRead(path, metadata);
    // Several families may share an architecture: readers choose by what the file says.
    return ggufConfig(
      { path, metadata: read, tensors },
      ggufFamily(read, (name) => tensors.has(name)) ?? family,
    );
  });
  checkSameModel(path, comparable(config, divisors), comparable(target, divisors));
  return { metadata, plans, changes: differences(config, target), divisors };
}

/** Divisors are compared as such: a file does not tell how they came about. */
function comparable(config: DecoderConfig, divisors: ReadonlyMap<string, Float32Array>): DecoderConfig {
  const { rope } = config;
  return rope === null ? config : { ...config, rope: { ...rope, scaling: sayable(rope.scaling, divisors) } };
}

function stackForm(
  path: string,
  model: WrittenEncoder | WrittenEncoderDecoder,
  { dropHead = false }: WriteOptions,
): GgufForm {
  const family = stackFamilyOf(model.config.family, model.kind);
  if (family.gguf === undefined) throw withoutArchitecture(path, model.config.family);
  const { architecture, names, values } = family.gguf as StackGguf<unknown>;
  const headless = dropHead && model.kind === 'encoder' ? withoutHead(model.config) : null;
  const config = headless ?? model.config;
  if (model.kind === 'encoder' && 'head' in config && !SAYABLE_HEADS.has(config.head))
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      `a head of the kind ${config.head}`,
      'one that GGUF has names for',
      {
        hint: "the option dropHead ('--drop-head') leaves it out: a file for embeddings",
      },
    );
  const metadata: GgufValues = new Map([['general.architecture', architecture], ...values(config)]);
  if (model.kind === 'encoder') {
    const classifies = 'head' in config && config.head === 'sequence-classification';
    for (const [key, value] of poolingValues(architecture, model.embedding, { classifies }))
      metadata.set(key, value);
  }
  const plans = planned(names, headless ? encoderParts(headless) : model.parts);
  const tensors = tableOf(
    path,
    plans.map(({ name }) => name),
  );
  const target = said(path, () =>
    ggufStackConfig(family, asRead(path, metadata), (name) => tensors.has(name)),
  );
  checkSame(path, config, target);
  return { metadata, plans, changes: {}, divisors: new Map() };
}

const SAYABLE_HEADS: ReadonlySet<EncoderConfig['head']> = new Set(['none', 'sequence-classification']);

const withoutHead = (config: EncoderConfig): EncoderConfig => ({
  ...config,
  head: 'none',
  labels: [],
  probabilities: 'softmax',
  tiedEmbeddings: true,
});

const withoutArchitecture = (path: string, family: string): SwitchyardError =>
  mismatch(
    'ERR_UNSUPPORTED',
    path,
    `a model of the family ${family}`,
    'one that GGUF has an architecture for',
    { hint: 'a Hugging Face folder holds it' },
  );

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

/** The tensors by name, which is all that readers of a config ask. */
const tableOf = (path: string, names: readonly string[]): TensorTable =>
  new TensorTable(
    path,
    names.map((name) => ({ name, shape: [], format: 'f32', path, offset: 0, bytes: 0 })),
  );

/** The metadata as a reader of the file will have it. */
const asRead = (path: string, values: GgufValues): GgufMetadata =>
  new GgufMetadata(path, new Map([...values].map(([key, value]) => [key, typed(value)])));

function typed(value: GgufValueToWrite): GgufValue {
  if (typeof value === 'string') return { type: 'string', value };
  if (typeof value === 'boolean') return { type: 'bool', value };
  if (typeof value === 'number') return { type: 'u32', value };
  if ('f32' in value) return { type: 'f32', value: Math.fround(value.f32) };
  if (value instanceof Uint8Array) return { type: 'array', element: 'u8', value };
  if (value instanceof Int32Array) return { type: 'array', element: 'i32', value };
  if (value instanceof Float32Array) return { type: 'array', element: 'f32', value };
  return { type: 'array', element: 'string', value };
}
