/** From a path to a model, whatever its kind. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { JsonObject } from '../../checkpoint/json-file.js';
import type { Device } from '../../core/device.js';
import { checkOptions, mismatch } from '../../core/errors.js';
import { automaticKvType, type ComputeMode, type KvType } from '../../core/format.js';
import { locateModel } from '../../hub/cache.js';
import { Decoder } from '../../models/decoder/decoder.js';
import { freeForExperts, placeExperts } from '../../models/decoder/place-experts.js';
import type { AnyFiles, EncoderDecoderFiles, EncoderFiles, ModelFiles } from '../../models/family.js';
import { isUnusable, PackedCache } from '../../models/packed/cache.js';
import { weightsOf } from '../../models/parts.js';
import {
  automaticCompute,
  loadDecoder,
  loadEncoder,
  loadEncoderDecoder,
  openFiles,
} from '../../models/read/load.js';
import { EmbeddingSteps } from '../../models/stacks/embedding-steps.js';
import type { Encoder } from '../../models/stacks/encoder.js';
import type { EncoderDecoder } from '../../models/stacks/encoder-decoder.js';
import { embeddingConfigOf, embeddingFiles } from '../../models/stacks/pooling.js';
import type { ModelSource } from '../../models/write/index.js';
import { Tokenizer } from '../../text/tokenizer.js';
import { modelLine, splitLine } from '../debug.js';
import { EncoderDecoderModel } from './encoder-decoder-model.js';
import { EncoderModel } from './encoder-model.js';
import { LanguageModel } from './language-model.js';
import {
  checkExperts,
  checkLengths,
  LOAD_OPTIONS,
  type LoadModelOptions,
  pickDevice,
  tokenizerOf,
} from './load-options.js';
import { madeOf } from './made-of.js';

export type AnyModel = LanguageModel | EncoderModel | EncoderDecoderModel;

/**
 * Loads a model from a GGUF file, a Hugging Face folder or a packed file: a `LanguageModel`, an `EncoderModel` or an
 * `EncoderDecoderModel`, by what the files hold.
 * @param path or the name org/name of a repository that `switchyard pull` or transformers has downloaded; this downloads nothing
 * @throws SwitchyardError ERR_FORMAT, ERR_IO, ERR_UNSUPPORTED_ARCH, …, naming the file and the tensor or key
 */
export async function loadModel(path: string, options: LoadModelOptions = {}): Promise<AnyModel> {
  checkOptions('loadModel', options, LOAD_OPTIONS);
  const device = pickDevice(options);
  const folder = options.packedCache ?? device.env.packedCache;
  const cache = folder === undefined ? null : PackedCache.of(locateModel(path), folder, device);
  const cached = cache?.open();
  try {
    if (cached) return await loadFiles(cached, device, options);
  } catch (error) {
    if (!isUnusable(error)) throw error;
  }
  return loadFiles(openFiles(path), device, options, cache);
}

/** The same for a decoder. @throws SwitchyardError ERR_UNSUPPORTED_ARCH for a model of another kind */
export async function loadLanguageModel(
  path: string,
  options: LoadModelOptions = {},
): Promise<LanguageModel> {
  const model = await loadModel(path, options);
  if (model.kind === 'decoder') return model;
  await model.dispose();
  throw mismatch('ERR_UNSUPPORTED_ARCH', path, `an ${model.kind}`, 'a decoder');
}

/** @param cache gets a packed copy of a decoder */
async function loadFiles(
  files: AnyFiles,
  device: Device,
  options: LoadModelOptions,
  cache: PackedCache | null = null,
): Promise<AnyModel> {
  if (options.experts !== undefined && files.kind !== 'decoder')
    throw mismatch('ERR_OPTION', 'loadModel', `experts for an ${files.kind}`, 'a sparse decoder');
  switch (files.kind) {
    case 'decoder':
      return languageModelOf(files, device, options, cache);
    case 'encoder':
      return encoderModelOf(files, device, options);
    case 'encoder-decoder':
      return encoderDecoderModelOf(files, device, options);
  }
}

async function languageModelOf(
  files: ModelFiles,
  device: Device,
  options: LoadModelOptions,
  cache: PackedCache | null,
): Promise<LanguageModel> {
  const { onProgress, signal } = options;
  const lengths = checkLengths(files.config, options);
  const tokenizer = tokenizerOf(files.checkpoint);
  const { contextLength } = lengths;
  const experts = checkExperts(options, device, files.config.moe);
  const loading = { device, contextLength, onProgress, signal, expertsOnHost: experts !== null };
  const loaded = await loadDecoder(files, loading);
  const decoder = experts
    ? await madeOf(loaded, device, () => {
        const cacheTypes = computing(loaded, device, options);
        const free = freeForExperts(device, files.config, { ...lengths, ...cacheTypes });
        return placeExperts(loaded, device, { ...experts, free, signal });
      })
    : loaded;
  return madeOf(decoder, device, async () => {
    if (cache && tokenizer instanceof Tokenizer) await cache.write(decoder, tokenizer, signal);
    const source = sourceOf(files);
    const settings = { device, ...computing(decoder, device, options), ...lengths, source };
    const model = await new LanguageModel(decoder, tokenizer, settings).warmed();
    announce(device, decoder, settings.compute);
    return model;
  });
}

async function encoderModelOf(
  files: EncoderFiles,
  device: Device,
  options: LoadModelOptions,
): Promise<EncoderModel> {
  const { onProgress, signal } = options;
  const { checkpoint } = files;
  const tokenizer = tokenizerOf(checkpoint);
  const embedding = embeddingConfigOf(checkpoint);
  const encoder = await loadEncoder(files, { device, onProgress, signal });
  return madeOf(encoder, device, async () => {
    const steps = await EmbeddingSteps.load(embedding.steps, device, signal);
    const { compute } = computing(encoder, device, options);
    announce(device, encoder, compute);
    const settings = { device, compute, source: sourceOf(files) };
    return new EncoderModel(encoder, tokenizer, embedding, steps, settings);
  });
}

async function encoderDecoderModelOf(
  files: EncoderDecoderFiles,
  device: Device,
  options: LoadModelOptions,
): Promise<EncoderDecoderModel> {
  const { onProgress, signal } = options;
  const { maxSeqLen, encoder, decoder } = files.config;
  const learnedPositions = encoder.learnedPositions ?? decoder.learnedPositions;
  const lengths = checkLengths({ maxSeqLen, learnedPositions }, options);
  const tokenizer = tokenizerOf(files.checkpoint);
  const model = await loadEncoderDecoder(files, { device, onProgress, signal });
  return madeOf(model, device, async () => {
    const source = sourceOf(files);
    const settings = { device, ...computing(model, device, options), ...lengths, source };
    const loaded = await new EncoderDecoderModel(model, tokenizer, settings).warmed();
    announce(device, model, settings.compute);
    return loaded;
  });
}

/** The configs of a Hugging Face folder, which saving writes again; what they would be for an encoder's GGUF file. */
function sourceOf(files: AnyFiles): ModelSource | null {
  const { checkpoint } = files;
  if (checkpoint.kind === 'gguf' && files.kind !== 'decoder') {
    const config = files.words as JsonObject;
    const others = files.kind === 'encoder' ? embeddingFiles(embeddingConfigOf(checkpoint)) : new Map();
    return { config, configText: `${JSON.stringify(config, null, 2)}\n`, others };
  }
  if (checkpoint.kind !== 'huggingface') return null;
  const { config, folder, generationConfig } = checkpoint;
  const text = (name: string) => readFileSync(join(folder, name), 'utf8');
  const names = [...SENTENCE_FILES, ...moduleFiles(folder)].filter((name) => existsSync(join(folder, name)));
  return {
    config,
    configText: text('config.json'),
    ...(generationConfig === undefined ? {} : { generationText: text('generation_config.json') }),
    others: new Map(names.map((name) => [name, readFileSync(join(folder, name))])),
  };
}

/** How vectors of texts are made, for sentence-transformers. */
const SENTENCE_FILES = ['modules.json', 'sentence_bert_config.json', 'config_sentence_transformers.json'];

/** Of the modules behind the encoder, weights of dense layers too. */
const moduleFiles = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => /^\d+_[\w-]+$/.test(name))
    .flatMap((name) => ['config.json', 'model.safetensors'].map((file) => join(name, file)));

/** How layers compute and caches store, as the options or the weights say. */
function computing(
  model: Decoder | Encoder | EncoderDecoder,
  device: Device,
  { dtype = 'auto', kvCache = 'auto' }: LoadModelOptions,
): { compute: ComputeMode; kvCache: KvType } {
  const compute = dtype === 'auto' ? automaticCompute(model, device) : dtype;
  return { compute, kvCache: kvCache === 'auto' ? automaticKvType(compute) : kvCache };
}

function announce(device: Device, model: Decoder | Encoder | EncoderDecoder, compute: ComputeMode): void {
  if (device.env.debug < 1) return;
  const bytes = weightsOf(model).reduce((sum, w) => sum + w.bytes, 0);
  process.stderr.write(modelLine(device, model.config, compute, bytes));
  const splits = model instanceof Decoder ? [...model.splits.values()] : [];
  if (splits.length > 0) process.stderr.write(splitLine(splits));
}
