/** The handle of an encoder-decoder: forward passes, and text from text. */
import { type EncoderDecoder, encoderDecoderParts } from '../../models/stacks/encoder-decoder.js';
import {
  type EncoderDecoderForwardInputs,
  type EncoderDecoderOutput,
  EncoderDecoderPass,
} from '../../models/stacks/encoder-decoder-forward.js';
import type { EncoderDecoderConfig } from '../../models/stacks/stack-config.js';
import type { WrittenParts } from '../../models/write/index.js';
import { type BatchOptions, type BatchResult, generateAll } from '../batch.js';
import { type GenerateOptions, Generation, type GenerationHost } from '../generation.js';
import { generateMany, type ManyOptions } from '../search/many.js';
import type { StepEngine } from '../steps/engine.js';
import { encoderDecoderSteps } from '../steps/step-model.js';
import { DecodingModel, type DecodingSettings } from './decoding-model.js';
import type { TokenizerSource } from './load-options.js';
import type { Text } from './model.js';

export interface AnswerOptions<T = unknown> extends GenerateOptions<T> {
  /** Tokens that the decoder begins with behind its start token. Default: the model's forced first token, if it has one. */
  decoderPrompt?: readonly number[];
}
export interface AnswerBatchOptions extends BatchOptions, Pick<AnswerOptions, 'decoderPrompt'> {}

/** A loaded encoder-decoder. Calls made at the same time share their steps and do not change each other's results. */
export class EncoderDecoderModel extends DecodingModel {
  readonly kind = 'encoder-decoder';
  readonly config: EncoderDecoderConfig;
  readonly #forward: EncoderDecoderPass;

  /** @internal Use `loadModel`. */
  constructor(
    readonly model: EncoderDecoder,
    tokenizer: TokenizerSource,
    settings: DecodingSettings,
  ) {
    super(model.config, model.parameters, tokenizer, settings, encoderDecoderSteps(model));
    this.config = model.config;
    this.#forward = new EncoderDecoderPass(settings.device, model, settings.compute);
  }

  /** Logits (and on request hidden states and routing) of whole sequences; nothing is cached. */
  async forward(inputs: EncoderDecoderForwardInputs): Promise<EncoderDecoderOutput> {
    this.check();
    return this.#forward.run(inputs);
  }

  /** Answers a text, or token ids as they are. The text is encoded once; each new token is one step. */
  override generate<T = unknown>(text: Text, options: AnswerOptions<T> = {}): Generation<T> {
    const { decoderPrompt, ...rest } = options;
    return new Generation<T>(this.#host([text]), this.#start(decoderPrompt), rest);
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

  protected override async free(): Promise<void> {
    await super.free();
    this.#forward.dispose();
  }

  #start(prompt: readonly number[] | undefined): readonly number[] {
    const { startId, forcedBosId } = this.config;
    return [startId, ...(prompt ? this.ids(prompt) : forcedBosId === null ? [] : [forcedBosId])];
  }

  #host(texts: readonly Text[]): GenerationHost {
    this.check();
    const sources = texts.map((text) => this.ids(text));
    const memory = this.engine.memory as NonNullable<StepEngine['memory']>;
    return {
      ...this.decodes(this.config.decoder.moe?.nExperts ?? 0),
      remember: (prompt) => memory.remember(sources[prompt] as readonly number[]),
      rememberedTokens: (prompt) => sources[prompt]?.length ?? 0,
    };
  }
}
