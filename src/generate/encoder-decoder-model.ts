/** The handle of an encoder-decoder: forward passes, and text from text. */
import type { KvType } from '../core/format.js';
import { type EncoderDecoder, encoderDecoderParts } from '../models/encoder-decoder.js';
import {
  type EncoderDecoderForwardInputs,
  type EncoderDecoderOutput,
  EncoderDecoderPass,
} from '../models/encoder-decoder-forward.js';
import type { EncoderDecoderConfig } from '../models/stack-config.js';
import type { WrittenParts } from '../models/write/index.js';
import { type BatchOptions, type BatchResult, generateAll } from './batch.js';
import { StepEngine } from './engine.js';
import { type GenerateOptions, Generation, type GenerationHost } from './generation.js';
import type { TokenizerSource } from './load-options.js';
import { generateMany, type ManyOptions } from './many.js';
import { Model, type ModelSettings, type Text } from './model.js';
import { Scheduler } from './scheduler.js';
import { encoderDecoderSteps } from './step-model.js';

export interface EncoderDecoderSettings extends ModelSettings {
  readonly kvCache: KvType;
  readonly contextLength: number;
  readonly cacheTokens: number;
}

export interface AnswerOptions extends GenerateOptions {
  /** Tokens that the decoder begins with behind its start token. Default: the model's forced first token, if it has one. */
  decoderPrompt?: readonly number[];
}
export interface AnswerBatchOptions extends BatchOptions, Pick<AnswerOptions, 'decoderPrompt'> {}

/** A loaded encoder-decoder. Calls made at the same time share their steps and do not change each other's results. */
export class EncoderDecoderModel extends Model {
  readonly kind = 'encoder-decoder';
  readonly config: EncoderDecoderConfig;
  /** How the caches store keys and values. */
  readonly kvCache: KvType;
  readonly #forward: EncoderDecoderPass;
  readonly #engine: StepEngine;
  readonly #scheduler: Scheduler;
  readonly #endIds: ReadonlySet<number>;

  /** @internal Use `loadModel`. */
  constructor(
    readonly model: EncoderDecoder,
    tokenizer: TokenizerSource,
    settings: EncoderDecoderSettings,
  ) {
    super(model.config, model.parameters, tokenizer, settings);
    const { device, compute, contextLength, cacheTokens, kvCache } = settings;
    this.config = model.config;
    this.kvCache = kvCache;
    this.#forward = new EncoderDecoderPass(device, model, compute);
    const steps = encoderDecoderSteps(model);
    this.#engine = new StepEngine(device, steps, compute, contextLength, cacheTokens, kvCache);
    this.#scheduler = new Scheduler(this.#engine);
    this.#endIds = new Set([...model.config.eosIds, ...tokenizer.endIds]);
  }

  /** @internal Steps over the caches, for schedulers and benches. */
  get engine(): StepEngine {
    return this.#engine;
  }

  /** @internal All generations run through it. */
  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  /** Logits (and on request hidden states and routing) of whole sequences; nothing is cached. */
  async forward(inputs: EncoderDecoderForwardInputs): Promise<EncoderDecoderOutput> {
    this.check();
    return this.#forward.run(inputs);
  }

  /** Answers a text, or token ids as they are. The text is encoded once; each new token is one step. */
  override generate(text: Text, options: AnswerOptions = {}): Generation {
    const { decoderPrompt, ...rest } = options;
    return new Generation(this.#host([text]), this.#start(decoderPrompt), rest);
  }

  /** Answers several texts together: as `generate` on each, and the same bits. More than the caches hold wait for room. */
  override async generateAll(
    texts: readonly Text[],
    options: AnswerBatchOptions = {},
  ): Promise<BatchResult[]> {
    const { decoderPrompt, ...rest } = options;
    const start = this.#start(decoderPrompt);
    return generateAll(
      this.#host(texts),
      texts.map(() => start),
      rest,
    );
  }

  /** Several answers to one text, which is encoded once; each draws with a seed of its own. */
  override async generateMany(text: Text, options: ManyOptions): Promise<BatchResult[]> {
    return generateMany(this.#host([text]), this.#start(undefined), options);
  }

  protected written(): WrittenParts {
    const { kind, config } = this;
    return { kind, config, parts: encoderDecoderParts(config) };
  }

  protected async free(): Promise<void> {
    await this.#engine.dispose();
    this.#forward.dispose();
  }

  #start(prompt: readonly number[] | undefined): readonly number[] {
    const { startId, forcedBosId } = this.config;
    return [startId, ...(prompt ? this.ids(prompt) : forcedBosId === null ? [] : [forcedBosId])];
  }

  #host(texts: readonly Text[]): GenerationHost {
    this.check();
    const sources = texts.map((text) => this.ids(text));
    const memory = this.#engine.memory as NonNullable<StepEngine['memory']>;
    return {
      device: this.device,
      scheduler: this.#scheduler,
      tokenizer: this.tokenizer,
      endIds: this.#endIds,
      contextLength: this.#engine.contextLength,
      vocabSize: this.config.vocabSize,
      nExperts: this.config.decoder.moe?.nExperts ?? 0,
      remember: (prompt) => memory.remember(sources[prompt] as readonly number[]),
      rememberedTokens: (prompt) => sources[prompt]?.length ?? 0,
    };
  }
}
