/** The families by model_type and by GGUF architecture. */
import { join } from 'node:path';
import type { Checkpoint } from '../checkpoint/folder.js';
import type { GgufMetadata } from '../checkpoint/gguf-metadata.js';
import { SwitchyardError } from '../core/errors.js';
import { decoderParts } from './decoder/build.js';
import { allLayers, checkConfig, type DecoderConfig } from './decoder/config.js';
import type { Part } from './decoder/parameters.js';
import { bart } from './families/bart.js';
import { bert } from './families/bert.js';
import { bloom } from './families/bloom.js';
import { deepseek } from './families/deepseek.js';
import { deepseekV2 } from './families/deepseek_v2.js';
import { deepseekV3 } from './families/deepseek_v3.js';
import { gemma } from './families/gemma.js';
import { glm4 } from './families/glm4.js';
import { glm4Moe } from './families/glm4_moe.js';
import { gptOss } from './families/gpt_oss.js';
import { gpt2 } from './families/gpt2.js';
import { gptJ } from './families/gptj.js';
import { graniteMoe } from './families/granitemoe.js';
import { llama } from './families/llama.js';
import { mistral } from './families/mistral.js';
import { mixtral } from './families/mixtral.js';
import { nllbMoe } from './families/nllb-moe.js';
import { olmoe } from './families/olmoe.js';
import { opt } from './families/opt.js';
import { phimoe } from './families/phimoe.js';
import { qwen2 } from './families/qwen2.js';
import { qwen2Moe } from './families/qwen2_moe.js';
import { qwen3 } from './families/qwen3.js';
import { qwen3Moe } from './families/qwen3_moe.js';
import { stMoe } from './families/st_moe.js';
import { switchTransformers } from './families/switch_transformers.js';
import { t5 } from './families/t5.js';
import { t5Encoder } from './families/t5-encoder.js';
import type {
  AnyFiles,
  EncoderDecoderFamily,
  EncoderDecoderFiles,
  EncoderFamily,
  EncoderFiles,
  Family,
  StackGguf,
} from './family.js';
import { ggufConfig } from './gguf/config.js';
import { ggufNames } from './gguf/names.js';
import { readPlainConfig } from './packed/plain-config.js';
import { ConfigReader } from './read/config-reader.js';
import { type NameTable, StoredNames } from './read/names.js';
import { naming } from './read/naming.js';
import { encoderParts } from './stacks/encoder.js';
import { encoderDecoderParts } from './stacks/encoder-decoder.js';
import { checkStack, type EncoderConfig, type EncoderDecoderConfig } from './stacks/stack-config.js';

const FAMILIES: readonly Family[] = [
  bloom,
  deepseek,
  deepseekV2,
  deepseekV3,
  gemma,
  glm4,
  glm4Moe,
  gpt2,
  gptJ,
  gptOss,
  graniteMoe,
  llama,
  mistral,
  mixtral,
  olmoe,
  opt,
  phimoe,
  qwen2,
  qwen2Moe,
  qwen3,
  qwen3Moe,
];
type StackFamilies = EncoderFamily | EncoderDecoderFamily;
const STACK_FAMILIES: readonly StackFamilies[] = [
  bart,
  bert,
  nllbMoe,
  stMoe,
  switchTransformers,
  t5,
  t5Encoder,
];
export const modelTypes: readonly string[] = [
  ...new Set([...FAMILIES, ...STACK_FAMILIES].map((f) => f.modelType)),
];

/** Whether a folder without weights would have a tensor: a head of its own, where the config says so. */
const describesHead = (checkpoint: Checkpoint, name: string): boolean =>
  name === 'lm_head.weight' &&
  checkpoint.kind === 'huggingface' &&
  checkpoint.config.tie_word_embeddings === false;

/** Config and tensor names of a checkpoint. Throws ERR_UNSUPPORTED_ARCH for a family that is not built. */
export function describeModel(checkpoint: Checkpoint): AnyFiles {
  const has = (name: string): boolean => checkpoint.tensors.has(name);
  const stacked = stackFormOf(checkpoint);
  if (stacked) return describeStacks(checkpoint, stacked);
  const [described, table] = readConfig(checkpoint);
  const config = table ? withFoundPredictions(described, table, has) : described;
  const parts = partsOf(decoderParts, config, checkpoint);
  return { kind: 'decoder', checkpoint, config, parts, names: table && new StoredNames(table, parts, has) };
}

/** Configs name layers that predict further ahead also where their files leave them out. */
function withFoundPredictions(
  config: DecoderConfig,
  table: NameTable,
  has: (name: string) => boolean,
): DecoderConfig {
  const { nLayers, nPredictionLayers } = config;
  const first = (layer: number): boolean =>
    table.some(
      ({ tensor, parts }) =>
        parts.includes('layers.{i}.projection.weight') && has(tensor.replace('{i}', String(layer))),
    );
  const found = allLayers(nPredictionLayers).filter((j) => first(nLayers + j)).length;
  return found === nPredictionLayers ? config : { ...config, nPredictionLayers: found };
}

/** What a checkpoint of an encoder or encoder-decoder says, in the vocabulary of its family. */
interface StackForm {
  readonly family: StackFamilies;
  readonly where: string;
  readonly keys: Readonly<Record<string, unknown>>;
  /** Whether a tensor of that name in a folder is there. */
  has(tensor: string): boolean;
  /** Whether the words are those of a GGUF file. */
  readonly isGguf: boolean;
}

function stackFormOf(checkpoint: Checkpoint): StackForm | null {
  const has = (name: string): boolean =>
    checkpoint.tensors.size === 0 ? describesHead(checkpoint, name) : checkpoint.tensors.has(name);
  if (checkpoint.kind === 'huggingface') {
    const { config, generationConfig, folder } = checkpoint;
    const candidates = STACK_FAMILIES.filter((f) => f.modelType === config.model_type);
    const family = candidates.find((f) => f.owns?.(config)) ?? candidates.find((f) => !f.owns);
    if (!family) return null;
    const keys = { ...idsOf(generationConfig), ...config };
    return { family, where: join(folder, 'config.json'), keys, has, isGguf: false };
  }
  if (checkpoint.kind !== 'gguf') return null;
  const arch = checkpoint.metadata.getString('general.architecture');
  const family = STACK_FAMILIES.find((f) => f.gguf?.architecture === arch);
  return family ? ggufStackForm(family, checkpoint.metadata, has) : null;
}

function ggufStackForm(
  family: StackFamilies,
  metadata: GgufMetadata,
  has: (tensor: string) => boolean,
): StackForm {
  const { keys, standsFor } = family.gguf as StackGguf<never>;
  const stands = (name: string): boolean => has(standsFor[name] ?? name);
  const written = Object.entries(keys(metadata, has)).filter(([, value]) => value !== undefined);
  return { family, where: metadata.path, keys: Object.fromEntries(written), has: stands, isGguf: true };
}

function stackConfig<C extends EncoderConfig | EncoderDecoderConfig>({
  where,
  keys,
  has,
  family,
}: StackForm): C {
  const reader = new ConfigReader(keys, where);
  const config = family.fromHuggingFace(reader, has);
  reader.finish();
  for (const stack of 'stack' in config ? [config.stack] : [config.encoder, config.decoder])
    checkStack(stack, where);
  return config as C;
}

/** What GGUF metadata says of an encoder or encoder-decoder. */
export const ggufStackConfig = (
  family: StackFamilies,
  metadata: GgufMetadata,
  has: (tensor: string) => boolean,
): EncoderConfig | EncoderDecoderConfig => stackConfig(ggufStackForm(family, metadata, has));

function describeStacks(checkpoint: Checkpoint, form: StackForm): EncoderFiles | EncoderDecoderFiles {
  const { family, isGguf, keys } = form;
  const words = { model_type: family.modelType, ...keys };
  const there = (name: string): boolean => checkpoint.tensors.has(name);
  const { spare } = (isGguf ? family.gguf : undefined) ?? family;
  if (family.kind === 'encoder') {
    const config = stackConfig<EncoderConfig>(form);
    const parts = partsOf(encoderParts, config, checkpoint);
    const table = isGguf && family.gguf ? family.gguf.names : family.huggingFaceNames(config);
    const names = new StoredNames(table, parts, there);
    return { kind: 'encoder', checkpoint, config, parts, names, spare, words };
  }
  const config = stackConfig<EncoderDecoderConfig>(form);
  const parts = partsOf(encoderDecoderParts, config, checkpoint);
  const table = isGguf && family.gguf ? family.gguf.names : family.huggingFaceNames(config);
  const names = new StoredNames(table, parts, there);
  return { kind: 'encoder-decoder', checkpoint, config, parts, names, spare, words };
}

/** Ids that newer folders keep for generation alone. */
const GENERATION_IDS = ['decoder_start_token_id', 'forced_bos_token_id', 'eos_token_id', 'pad_token_id'];

const idsOf = (generation: Readonly<Record<string, unknown>> = {}): Readonly<Record<string, unknown>> =>
  Object.fromEntries(Object.entries(generation).filter(([key]) => GENERATION_IDS.includes(key)));

function partsOf<C>(list: (config: C) => Part[], config: C, { tensors }: Checkpoint): Part[] {
  try {
    return list(config);
  } catch (error) {
    throw naming(tensors.source, error);
  }
}

/** The family of a decoder's GGUF file. */
export function ggufFamily(metadata: GgufMetadata, has: (tensor: string) => boolean): Family | undefined {
  const arch = metadata.getString('general.architecture');
  const candidates = FAMILIES.filter((f) => f.ggufArchitecture === arch);
  return candidates.find((f) => f.ownsGguf?.(metadata, has)) ?? candidates.find((f) => !f.ownsGguf);
}

function readConfig(checkpoint: Checkpoint): [DecoderConfig, NameTable | null] {
  if (checkpoint.kind === 'switchyard') return [readPlainConfig(checkpoint.config, checkpoint.path), null];
  if (checkpoint.kind === 'gguf') {
    const { metadata, tensors, path } = checkpoint;
    const family = ggufFamily(metadata, (name) => tensors.has(name));
    if (!family)
      throw unsupported(path, metadata.getString('general.architecture'), [
        ...new Set(FAMILIES.flatMap((f) => f.ggufArchitecture ?? [])),
        ...STACK_FAMILIES.flatMap((f) => f.gguf?.architecture ?? []),
      ]);
    const config = checkConfig(ggufConfig(checkpoint, family), checkpoint.path);
    return [config, [...(family.ggufNames ?? []), ...ggufNames]];
  }
  const { folder } = checkpoint;
  const family = familyOf(checkpoint.config.model_type, folder);
  const config = configOf(family, checkpoint.config, join(folder, 'config.json'));
  return [config, family.huggingFaceNames(config)];
}

/** @throws SwitchyardError ERR_UNSUPPORTED_ARCH for one that is not built */
export function familyOf(modelType: unknown, where = 'config.json'): Family {
  const family = FAMILIES.find((f) => f.modelType === modelType);
  if (family) return family;
  throw unsupported(where, String(modelType), modelTypes);
}

/** @throws SwitchyardError ERR_UNSUPPORTED_ARCH for one that is not built */
export function stackFamilyOf(modelType: unknown, kind: StackFamilies['kind']): StackFamilies {
  const family = STACK_FAMILIES.find((f) => f.modelType === modelType && f.kind === kind);
  if (family) return family;
  throw unsupported('config.json', String(modelType), modelTypes);
}

/** Tensors of a Hugging Face folder of an encoder or encoder-decoder. */
export function stackTable(modelType: unknown, config: EncoderConfig | EncoderDecoderConfig): NameTable {
  const family = stackFamilyOf(modelType, 'stack' in config ? 'encoder' : 'encoder-decoder');
  return (family.huggingFaceNames as (config: EncoderConfig | EncoderDecoderConfig) => NameTable)(config);
}

/** The content of config.json, every key of it understood. */
export function configOf(
  family: Family,
  source: Readonly<Record<string, unknown>>,
  where: string,
): DecoderConfig {
  const reader = new ConfigReader(source, where);
  const config = checkConfig(family.fromHuggingFace(reader), where);
  reader.finish();
  return config;
}

function unsupported(path: string, got: string, known: readonly string[]): SwitchyardError {
  return new SwitchyardError(
    'ERR_UNSUPPORTED_ARCH',
    `[${path}] got model type '${got}', expected ${known.join(' or ')}`,
  );
}
