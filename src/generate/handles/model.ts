/** What all kinds of models have in common: a tokenizer, a device, and an end. */
import type { Device } from '../../core/device.js';
import { DisposedError, mismatch, type SwitchyardError } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { Weight } from '../../core/weight.js';
import type { ParameterMap } from '../../models/decoder/parameters.js';
import { checkToken } from '../../models/decoder/ragged.js';
import type { ModelSource, WriteOptions, WrittenModel, WrittenParts } from '../../models/write/index.js';
import { writeLoaded } from '../../models/write/index.js';
import type { ChatMessage } from '../../text/chat-template.js';
import { Tokenizer } from '../../text/tokenizer.js';
import type { BatchOptions, BatchResult } from '../batch.js';
import type { GenerateOptions, Generation } from '../generation.js';
import type { ManyOptions } from '../search/many.js';
import type { TokenizerSource } from './load-options.js';

export type ModelKind = 'decoder' | 'encoder' | 'encoder-decoder';

export interface ModelSettings {
  readonly device: Device;
  /** How linear layers compute. */
  readonly compute: ComputeMode;
  /** Null, the default, for models that did not come from a Hugging Face folder. */
  readonly source?: ModelSource | null;
}

/** A loaded model. Each kind has some of the methods; the others refuse with ERR_UNSUPPORTED. */
export abstract class Model {
  abstract readonly kind: ModelKind;
  readonly device: Device;
  /** How linear layers compute. */
  readonly dtype: ComputeMode;
  readonly #parameters: ParameterMap;
  readonly #vocabSize: number;
  readonly #source: ModelSource | null;
  #tokenizer: TokenizerSource;
  #disposed = false;

  constructor(
    { vocabSize }: { readonly vocabSize: number },
    parameters: ParameterMap,
    tokenizer: TokenizerSource,
    { device, compute, source = null }: ModelSettings,
  ) {
    this.#source = source;
    this.device = device;
    this.dtype = compute;
    this.#parameters = parameters;
    this.#vocabSize = vocabSize;
    this.#tokenizer = tokenizer;
  }

  /** Built at its first use where the model came from a packed file. */
  get tokenizer(): Tokenizer {
    if (!(this.#tokenizer instanceof Tokenizer)) this.#tokenizer = this.#tokenizer.make();
    return this.#tokenizer;
  }

  /** Continues a text, or answers one. */
  generate<T = unknown>(
    _prompt: string | readonly number[],
    _options: GenerateOptions<T> = {},
  ): Generation<T> {
    throw this.#lacks('generate', DECODES);
  }

  /** Continues, or answers, several texts together. */
  async generateAll(_prompts: readonly Text[], _options: BatchOptions = {}): Promise<BatchResult[]> {
    throw this.#lacks('generateAll', DECODES);
  }

  /** Several continuations of, or answers to, one text. */
  async generateMany(_prompt: Text, _options: ManyOptions): Promise<BatchResult[]> {
    throw this.#lacks('generateMany', DECODES);
  }

  /** Answers a conversation. */
  chat(_messages: readonly ChatMessage[], _options: GenerateOptions = {}): Generation {
    throw this.#lacks('chat', 'a decoder');
  }

  /** A unit vector for each text. */
  async embed(_texts: readonly (Text | TextPair)[]): Promise<Float32Array[]> {
    throw this.#lacks('embed', 'an encoder');
  }

  /** The class of each text. */
  async classify(_texts: readonly (Text | TextPair)[]): Promise<unknown[]> {
    throw this.#lacks('classify', 'an encoder with a classifier of texts');
  }

  /** The class of each token of each text. */
  async classifyTokens(_texts: readonly (Text | TextPair)[]): Promise<unknown[][]> {
    throw this.#lacks('classifyTokens', 'an encoder with a classifier of tokens');
  }

  /**
   * Writes the model: a Hugging Face folder, which transformers reads too; or, by the path's ending, a GGUF file (.gguf) or a
   * packed file of our own (.switchyard, docs/packed-file.md). What is there appears whole or not at all. Floats and the
   * blocks that GGUF has are written as they are stored; in a folder blocks become float32.
   */
  async save(path: string, options: WriteOptions = {}): Promise<void> {
    this.check();
    const { tokenizer, device } = this;
    await writeLoaded(
      path,
      {
        ...this.written(),
        parameters: this.#parameters,
        tokenizer,
        device,
        source: this.#source,
      } as WrittenModel,
      options,
    );
  }

  /** What the model is, for writers. */
  protected abstract written(): WrittenParts;

  /** Waits for what runs, then frees native memory. Twice is fine. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.free();
    for (const weight of new Set(this.#parameters.values()))
      if (weight instanceof Weight) this.device.addon.disposeWeight(weight.native);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  /** Ends whatever runs, and frees all but the weights. */
  protected abstract free(): Promise<void>;

  protected check(): void {
    if (this.#disposed) throw new DisposedError('model');
  }

  /** Ids of a text, or ids as they are. */
  protected ids(text: Text): readonly number[] {
    if (typeof text === 'string') return this.tokenizer.encode(text);
    return text.map((id) => checkToken(id, this.#vocabSize));
  }

  #lacks(what: string, expected: string): SwitchyardError {
    return mismatch('ERR_UNSUPPORTED', what, `an ${this.kind} model`.replace('an d', 'a d'), expected);
  }
}

const DECODES = 'a model with a decoder';

/** Two texts that an encoder reads together, such as a question and a passage. */
export interface TextPair {
  readonly text: string;
  readonly pair: string;
}

/** A text, or token ids as they are. */
export type Text = string | readonly number[];
