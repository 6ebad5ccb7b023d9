/** The handle that `loadModel` returns: forward passes, text, chat. */
import { type Device, type DeviceOptions, device as makeDevice } from '../core/device.js';
import { checkOptions, DisposedError, SwitchyardError } from '../core/errors.js';
import { automaticKvType, COMPUTE_MODES, type ComputeMode, KV_TYPES, type KvType } from '../core/format.js';
import type { DecoderConfig } from '../models/config.js';
import type { Decoder } from '../models/decoder.js';
import { type ForwardInputs, type ForwardOutput, ForwardPass } from '../models/forward.js';
import { automaticCompute, loadDecoder, openModel, weightsOf } from '../models/load.js';
import { checkToken } from '../models/ragged.js';
import { loadTokenizer } from '../models/tokenizer.js';
import { type UpcycleOptions, upcycleDecoder } from '../models/upcycle.js';
import type { LoadProgress } from '../models/weights.js';
import { type ChatPromptOptions, encodeChat } from '../text/chat-prompt.js';
import { type ChatMessage, ChatTemplate } from '../text/chat-template.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { type BatchOptions, type BatchResult, generateAll } from './batch.js';
import { modelLine } from './debug.js';
import { StepEngine } from './engine.js';
import { type GenerateOptions, Generation, type GenerationHost } from './generation.js';

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
  'signal',
  'onProgress',
];
const DEFAULT_CONTEXT = 4096;

/**
 * Loads a model from a GGUF file or a Hugging Face folder.
 * @throws SwitchyardError ERR_FORMAT, ERR_IO, ERR_UNSUPPORTED_ARCH, …, naming the file and the tensor or key
 */
export async function loadModel(path: string, options: LoadModelOptions = {}): Promise<LanguageModel> {
  checkOptions('loadModel', options, OPTIONS);
  const device = pickDevice(options);
  const files = openModel(path);
  const lengths = checkLengths(files.config, options);
  const tokenizer = loadTokenizer(files.checkpoint);
  const decoder = await loadDecoder(files, {
    device,
    contextLength: lengths.contextLength,
    onProgress: options.onProgress,
    signal: options.signal,
  });
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

/** A loaded language model. Independent calls may run at the same time; their steps alternate. */
export class LanguageModel {
  readonly config: DecoderConfig;
  readonly device: Device;
  /** How linear layers compute. */
  readonly dtype: ComputeMode;
  /** How the cache stores keys and values. */
  readonly kvCache: KvType;
  readonly #forward: ForwardPass;
  readonly #engine: StepEngine;
  readonly #endIds: ReadonlySet<number>;
  #template: ChatTemplate | null = null;
  #disposed = false;

  /** @internal Use `loadModel`. */
  constructor(
    readonly decoder: Decoder,
    readonly tokenizer: Tokenizer,
    readonly settings: Settings,
  ) {
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
    this.#endIds = new Set([...decoder.config.eosIds, ...tokenizer.endIds]);
  }

  /** @internal Steps over the cache, for schedulers and benches. */
  get engine(): StepEngine {
    return this.#engine;
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

  /** Continues several prompts as one ragged batch: as `generate` on each, and the same bits. */
  async generateAll(
    prompts: readonly (string | readonly number[])[],
    options: BatchOptions = {},
  ): Promise<BatchResult[]> {
    const ids = prompts.map((prompt) => this.#ids(prompt));
    return generateAll(this.#host(), ids, options);
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
    return warmed(new LanguageModel(decoder, this.tokenizer, this.settings));
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
      engine: this.#engine,
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
