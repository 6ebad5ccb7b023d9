/** The handle of a decoder: forward passes, text, chat. */
import { SwitchyardError } from '../../core/errors.js';
import { decoderParts } from '../../models/decoder/build.js';
import type { DecoderConfig } from '../../models/decoder/config.js';
import type { Decoder } from '../../models/decoder/decoder.js';
import { type ForwardInputs, type ForwardOutput, ForwardPass } from '../../models/decoder/forward.js';
import { type UpcycleOptions, upcycleDecoder } from '../../models/upcycle.js';
import type { WrittenParts } from '../../models/write/index.js';
import { type ChatPromptOptions, encodeChat } from '../../text/chat-prompt.js';
import { type ChatMessage, ChatTemplate } from '../../text/chat-template.js';
import { type BatchOptions, type BatchResult, generateAll } from '../batch.js';
import { type GenerateOptions, Generation, type GenerationHost } from '../generation.js';
import {
  type CandidateScore,
  type LikelihoodOptions,
  logprobsOf,
  type ScoredToken,
  scoresOf,
} from '../likelihood.js';
import { generateMany, type ManyOptions } from '../search/many.js';
import { decoderSteps } from '../steps/step-model.js';
import { DecodingModel, type DecodingSettings } from './decoding-model.js';
import type { TokenizerSource } from './load-options.js';
import { madeOf } from './made-of.js';

/** A loaded language model. Calls made at the same time share their steps and do not change each other's results. */
export class LanguageModel extends DecodingModel {
  readonly kind = 'decoder';
  readonly config: DecoderConfig;
  readonly #forward: ForwardPass;
  #template: ChatTemplate | null = null;

  /** @internal Use `loadModel`. */
  constructor(
    readonly decoder: Decoder,
    tokenizer: TokenizerSource,
    readonly settings: DecodingSettings,
  ) {
    super(decoder.config, decoder.parameters, tokenizer, settings, decoderSteps(decoder));
    this.config = decoder.config;
    this.#forward = new ForwardPass(settings.device, decoder, settings.compute);
  }

  /** Logits (and on request hidden states and routing) of whole sequences. */
  async forward(inputs: ForwardInputs): Promise<ForwardOutput> {
    this.check();
    return this.#forward.run(inputs);
  }

  /** Continues a text, or token ids as they are. */
  override generate<T = unknown>(
    prompt: string | readonly number[],
    options: GenerateOptions<T> = {},
  ): Generation<T> {
    return new Generation<T>(this.#host(), this.ids(prompt), options);
  }

  /** Continues several prompts together: as `generate` on each, and the same bits. More than the cache holds wait for room. */
  override async generateAll(
    prompts: readonly (string | readonly number[])[],
    options: BatchOptions = {},
  ): Promise<BatchResult[]> {
    const ids = prompts.map((prompt) => this.ids(prompt));
    return generateAll(this.#host(), ids, options);
  }

  /** Several answers to one prompt, whose blocks they share; answer i draws with the seed `seed + i`. */
  override async generateMany(
    prompt: string | readonly number[],
    options: ManyOptions,
  ): Promise<BatchResult[]> {
    return generateMany(this.#host(), this.ids(prompt), options);
  }

  /** How likely each token of a text is behind those before it; the first token has none before it and is left out. */
  async logprobs(text: string | readonly number[], options: LikelihoodOptions = {}): Promise<ScoredToken[]> {
    return logprobsOf(this.#host(), this.ids(text), options);
  }

  /**
   * How likely each candidate is behind the prompt, whose tokens are computed once: multiple choice. A candidate that is a text
   * is encoded together with the prompt (which then is one, too), one of token ids stands behind the prompt's as it is.
   */
  async score(
    prompt: string | readonly number[],
    candidates: readonly (string | readonly number[])[],
    options: LikelihoodOptions = {},
  ): Promise<CandidateScore[]> {
    const ids = this.ids(prompt);
    const whole = candidates.map((candidate) => {
      if (typeof candidate !== 'string') return [...ids, ...this.ids(candidate)];
      if (typeof prompt === 'string') return this.ids(prompt + candidate);
      throw new SwitchyardError(
        'ERR_OPTION',
        '[score] got a prompt of token ids and a candidate that is a text, expected one kind',
      );
    });
    return scoresOf(this.#host(), ids, whole, options);
  }

  /** Answers a conversation through the model's own template. */
  override chat(
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
    this.check();
    const decoder = await upcycleDecoder(this.decoder, this.device, options);
    return madeOf(decoder, this.device, () =>
      new LanguageModel(decoder, this.tokenizer, this.settings).warmed(),
    );
  }

  protected written(): WrittenParts {
    const { kind, config, decoder } = this;
    return { kind, config, decoder, parts: decoderParts(config) };
  }

  protected override async free(): Promise<void> {
    await super.free();
    this.#forward.dispose();
    for (const split of this.decoder.splits.values()) split.dispose();
  }

  #host(): GenerationHost {
    return this.decodes(this.config.moe?.nExperts ?? 0);
  }
}
