/** The handle that `loadModel` returns: forward passes, text, chat. */
import type { Checkpoint } from '../checkpoint/folder.js';
import { type Device, type DeviceOptions, device as makeDevice } from '../core/device.js';
import { checkOptions, DisposedError, SwitchyardError } from '../core/errors.js';
import { automaticKvType, COMPUTE_MODES, type ComputeMode, KV_TYPES, type KvType } from '../core/format.js';
import { locateModel } from '../hub/cache.js';
import type { DecoderConfig } from '../models/config.js';
import type { Decoder } from '../models/decoder.js';
import type { ModelFiles } from '../models/family.js';
import { type ForwardInputs, type ForwardOutput, ForwardPass } from '../models/forward.js';
import { automaticCompute, loadDecoder, openModel } from '../models/load.js';
import { isUnusable, PackedCache } from '../models/packed-cache.js';
import { weightsOf } from '../models/parts.js';
import { checkToken } from '../models/ragged.js';
import { type SaveOptions, saveDecoder } from '../models/save.js';
import type { LoadProgress } from '../models/tensor-source.js';
import { loadTokenizer } from '../models/tokenizer.js';
import { type UpcycleOptions, upcycleDecoder } from '../models/upcycle.js';

import { type ChatPromptOptions, encodeChat } from '../text/chat-prompt.js';
import { type ChatMessage, ChatTemplate } from '../text/chat-template.js';
import { Tokenizer } from '../text/tokenizer.js';
import { type BatchOptions, type BatchResult, generateAll } from './batch.js';
import { modelLine } from './debug.js';
import { StepEngine } from './engine.js';
import { type GenerateOptions, Generation, type GenerationHost } from './generation.js';
import { generateMany, type ManyOptions } from './many.js';
import { Scheduler } from './scheduler.js';

export interface LoadModelOptions {
  /** 'auto' (default) is the best device that works; or a device made with `device(…)`. */
  device?: 'auto' | 'cpu' | Device;
  /**
   * How linear layers compute: 'f32' is exact (float32 activations), 'bf16' and 'int8' round the activations.
   * 'auto' (default): int8 for quantised weights, else f32.
   */
  dtype?: 'auto' | ComputeMode;
  /** Threads that kernels use. Default: SWITCHYARD_THREADS, else the cores this process may use. */
  threads?: number;
  /** Longest sequence in tokens. Default: what the model was made for, at most 4096. */
  contextLength?: number;
  /** Tokens that all running sequences together may hold. Default: contextLength. */
  cacheTokens?: number;
  /**
   * How the cache stores keys and values. 'f16' and 'bf16' take half the memory of 'f32' and 'int8' about a quarter, and
   * a token after a long text is faster by as much. 'auto' (default): f32 where linear layers compute in f32, so that
   * nothing is rounded; else f16.
   */
  kvCache?: 'auto' | KvType;
  /**
   * Folder for packed files: the first load of a model writes one, later loads map it and take milliseconds. A model whose
   * files changed is written anew. Default: SWITCHYARD_PACKED_CACHE, else none.
   */
  packedCache?: string;
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
}

const OPTIONS = [
  'device',
  'dtype',
  'threads',
  'contextLength',
  'cacheTokens',
  'kvCache',
  'packedCache',
  'signal',
  'onProgress',
];
const DEFAULT_CONTEXT = 4096;

/**
 * Loads a model from a GGUF file, a Hugging Face folder or a packed file.
 * @param path or the name org/name of a repository that `switchyard pull` or transformers has downloaded; this downloads nothing
 * @throws SwitchyardError ERR_FORMAT, ERR_IO, ERR_UNSUPPORTED_ARCH, …, naming the file and the tensor or key
 */
export async function loadModel(path: string, options: LoadModelOptions = {}): Promise<LanguageModel> {
  checkOptions('loadModel', options, OPTIONS);
  const device = pickDevice(options);
  const folder = options.packedCache ?? device.env.packedCache;
  const cache = folder === undefined ? null : PackedCache.of(locateModel(path), folder, device);
  const { decoder, tokenizer, lengths } = await loadThrough(cache, path, device, options);
  const { dtype = 'auto', kvCache: kind = 'auto' } = options;
  const compute = dtype === 'auto' ? automaticCompute(decoder) : dtype;
  const kvCache = kind === 'auto' ? automaticKvType(compute) : kind;
  try {
    const model = await warmed(
      new LanguageModel(decoder, tokenizer, { device, compute, kvCache, ...lengths }),
    );
    if (device.env.debug >= 1) {
      const bytes = weightsOf(decoder).reduce((sum, w) => sum + w.bytes, 0);
      process.stderr.write(modelLine(device, decoder.config, compute, bytes));
    }
    return model;
  } catch (error) {
    for (const { native } of weightsOf(decoder)) device.disposeWeight(native);
    throw error;
  }
}

interface Loaded {
  readonly decoder: Decoder;
  readonly tokenizer: TokenizerSource;
  readonly lengths: { contextLength: number; cacheTokens: number };
}

async function loadThrough(
  cache: PackedCache | null,
  path: string,
  device: Device,
  options: LoadModelOptions,
): Promise<Loaded> {
  const cached = cache?.open();
  try {
    if (cached) return await loadFiles(cached, device, options);
  } catch (error) {
    if (!isUnusable(error)) throw error;
  }
  const loaded = await loadFiles(openModel(path), device, options);
  const { decoder, tokenizer } = loaded;
  try {
    if (tokenizer instanceof Tokenizer) await cache?.write(decoder, tokenizer, options.signal);
  } catch (error) {
    for (const { native } of weightsOf(decoder)) device.disposeWeight(native);
    throw error;
  }
  return loaded;
}

async function loadFiles(files: ModelFiles, device: Device, options: LoadModelOptions): Promise<Loaded> {
  const { onProgress, signal } = options;
  const lengths = checkLengths(files.config, options);
  const tokenizer = tokenizerOf(files.checkpoint);
  const { contextLength } = lengths;
  const decoder = await loadDecoder(files, { device, contextLength, onProgress, signal });
  return { decoder, tokenizer, lengths };
}

/**
 * A tokenizer, or how to make one: a packed file names the end tokens, and large vocabularies take longer to build than its
 * weights take to map.
 */
type TokenizerSource = Tokenizer | { readonly endIds: readonly number[]; make(): Tokenizer };

function tokenizerOf(checkpoint: Checkpoint): TokenizerSource {
  if (checkpoint.kind !== 'switchyard') return loadTokenizer(checkpoint);
  return { endIds: checkpoint.endIds, make: () => loadTokenizer(checkpoint) };
}

async function warmed(model: LanguageModel): Promise<LanguageModel> {
  try {
    await model.engine.warm();
    return model;
  } catch (error) {
    await model.dispose();
    throw error;
  }
}

function checkChoice(name: string, value: string, allowed: readonly string[]): void {
  if (value === 'auto' || allowed.includes(value)) return;
  throw new SwitchyardError(
    'ERR_OPTION',
    `[loadModel] got ${name} '${value}', expected auto, ${allowed.join(', ')}`,
  );
}

function pickDevice({
  device = 'auto',
  threads,
  dtype = 'auto',
  kvCache = 'auto',
}: LoadModelOptions): Device {
  checkChoice('dtype', dtype, COMPUTE_MODES);
  checkChoice('kvCache', kvCache, KV_TYPES);
  if (typeof device !== 'string') return device;
  if (device !== 'auto' && device !== 'cpu') {
    throw new SwitchyardError('ERR_DEVICE', `[loadModel] got device '${device}', expected 'auto' or 'cpu'`);
  }
  const chosen: DeviceOptions = threads === undefined ? {} : { threads };
  return makeDevice(chosen);
}

function checkLengths(
  config: DecoderConfig,
  options: LoadModelOptions,
): { contextLength: number; cacheTokens: number } {
  const { contextLength = Math.min(config.maxSeqLen, DEFAULT_CONTEXT), cacheTokens = contextLength } =
    options;
  for (const [name, value] of Object.entries({ contextLength, cacheTokens })) {
    if (!Number.isInteger(value) || value < 1 || value > 2 ** 31 - 1)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[loadModel] got ${name} ${value}, expected a whole number ≥ 1`,
      );
  }
  return { contextLength, cacheTokens };
}

interface Settings {
  device: Device;
  compute: ComputeMode;
  kvCache: KvType;
  contextLength: number;
  cacheTokens: number;
}

/** A loaded language model. Calls made at the same time share their steps and do not change each other's results. */
export class LanguageModel {
  readonly config: DecoderConfig;
  readonly device: Device;
  /** How linear layers compute. */
  readonly dtype: ComputeMode;
  /** How the cache stores keys and values. */
  readonly kvCache: KvType;
  readonly #forward: ForwardPass;
  readonly #engine: StepEngine;
  readonly #scheduler: Scheduler;
  readonly #endIds: ReadonlySet<number>;
  #tokenizer: TokenizerSource;
  #template: ChatTemplate | null = null;
  #disposed = false;

  /** @internal Use `loadModel`. */
  constructor(
    readonly decoder: Decoder,
    tokenizer: TokenizerSource,
    readonly settings: Settings,
  ) {
    this.#tokenizer = tokenizer;
    this.config = decoder.config;
    this.device = settings.device;
    this.dtype = settings.compute;
    this.kvCache = settings.kvCache;
    this.#forward = new ForwardPass(settings.device, decoder, settings.compute);
    this.#engine = new StepEngine(
      settings.device,
      decoder,
      settings.compute,
      settings.contextLength,
      settings.cacheTokens,
      settings.kvCache,
    );
    this.#scheduler = new Scheduler(this.#engine);
    this.#endIds = new Set([...decoder.config.eosIds, ...tokenizer.endIds]);
  }

  /** Built at its first use where the model came from a packed file. */
  get tokenizer(): Tokenizer {
    if (!(this.#tokenizer instanceof Tokenizer)) this.#tokenizer = this.#tokenizer.make();
    return this.#tokenizer;
  }

  /** @internal Steps over the cache, for schedulers and benches. */
  get engine(): StepEngine {
    return this.#engine;
  }

  /** @internal All generations run through it. */
  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  /** Logits (and on request hidden states and routing) of whole sequences. */
  async forward(inputs: ForwardInputs): Promise<ForwardOutput> {
    this.#check();
    return this.#forward.run(inputs);
  }

  /** Continues a text, or token ids as they are. */
  generate(prompt: string | readonly number[], options: GenerateOptions = {}): Generation {
    return new Generation(this.#host(), this.#ids(prompt), options);
  }

  /** Continues several prompts together: as `generate` on each, and the same bits. More than the cache holds wait for room. */
  async generateAll(
    prompts: readonly (string | readonly number[])[],
    options: BatchOptions = {},
  ): Promise<BatchResult[]> {
    const ids = prompts.map((prompt) => this.#ids(prompt));
    return generateAll(this.#host(), ids, options);
  }

  /** Several answers to one prompt, whose blocks they share; answer i draws with the seed `seed + i`. */
  async generateMany(prompt: string | readonly number[], options: ManyOptions): Promise<BatchResult[]> {
    return generateMany(this.#host(), this.#ids(prompt), options);
  }

  /** Answers a conversation through the model's own template. */
  chat(
    messages: readonly ChatMessage[],
    options: GenerateOptions & { template?: ChatPromptOptions } = {},
  ): Generation {
    const { template, ...rest } = options;
    return this.generate(this.chatPrompt(messages, template).ids, rest);
  }

  /** The rendered prompt of a conversation and its ids. */
  chatPrompt(
    messages: readonly ChatMessage[],
    options: ChatPromptOptions = {},
  ): { text: string; ids: number[] } {
    if (!this.#template) {
      const source = this.tokenizer.chatTemplate;
      if (source === undefined)
        throw new SwitchyardError(
          'ERR_TEMPLATE',
          '[chat] got a model without a chat template, expected one',
          { hint: 'use generate with a prompt of your own' },
        );
      this.#template = new ChatTemplate(source, { specialTokens: this.tokenizer.specialTokens });
    }
    return encodeChat(this.tokenizer, this.#template, messages, options);
  }

  /** This model with each feed-forward layer turned into equal experts (see models.upcycle). Both stay usable; dispose both. */
  async upcycle(options: UpcycleOptions): Promise<LanguageModel> {
    this.#check();
    const decoder = await upcycleDecoder(this.decoder, this.device, options);
    return warmed(new LanguageModel(decoder, this.#tokenizer, this.settings));
  }

  /**
   * Writes the model as a packed file, which `loadModel` maps instead of reading it (docs/packed-file.md). It appears whole or
   * not at all.
   */
  async save(path: string, options: SaveOptions = {}): Promise<void> {
    this.#check();
    await saveDecoder(this.decoder, this.tokenizer, this.device, path, options);
  }

  /** Waits for running steps, then frees native memory. Twice is fine. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#engine.dispose();
    this.#forward.dispose();
    for (const w of weightsOf(this.decoder)) this.device.addon.disposeWeight(w.native);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  #host(): GenerationHost {
    this.#check();
    return {
      device: this.device,
      scheduler: this.#scheduler,
      tokenizer: this.tokenizer,
      endIds: this.#endIds,
      contextLength: this.#engine.contextLength,
      nExperts: this.config.moe?.nExperts ?? 0,
    };
  }

  #ids(prompt: string | readonly number[]): readonly number[] {
    if (typeof prompt === 'string') return this.tokenizer.encode(prompt);
    return prompt.map((id) => checkToken(id, this.config.vocabSize));
  }

  #check(): void {
    if (this.#disposed) throw new DisposedError('model');
  }
}
