/** The handle of an encoder: forward passes, vectors of texts, classes. */
import { checkOptions, mismatch } from '../../core/errors.js';
import { EmbeddingPass, type SegmentedText } from '../../models/stacks/embedding-pass.js';
import type { EmbeddingSteps } from '../../models/stacks/embedding-steps.js';
import { type Encoder, encoderParts } from '../../models/stacks/encoder.js';
import {
  type EncoderForwardInputs,
  type EncoderOutput,
  EncoderPass,
} from '../../models/stacks/encoder-forward.js';
import { type EmbeddingConfig, POOLINGS, type Pooling, poolingsOf } from '../../models/stacks/pooling.js';
import type { EncoderConfig } from '../../models/stacks/stack-config.js';
import type { WrittenParts } from '../../models/write/index.js';
import type { TokenizerSource } from './load-options.js';
import { Model, type ModelSettings, type Text, type TextPair } from './model.js';

export interface EmbedOptions {
  /** Of several the vectors are put one after another. Default: what the model's folder says (sentence-transformers), else 'mean'. */
  pooling?: Pooling | readonly Pooling[];
}

/** The likeliest class, and the probability of each. */
export interface Classification {
  readonly label: string;
  readonly score: number;
  readonly scores: Readonly<Record<string, number>>;
}

/** A loaded encoder. */
export class EncoderModel extends Model {
  readonly kind = 'encoder';
  readonly config: EncoderConfig;
  readonly #forward: EncoderPass;
  readonly #embedding: EmbeddingPass;

  /** @internal Use `loadModel`. */
  constructor(
    readonly encoder: Encoder,
    tokenizer: TokenizerSource,
    readonly embedding: EmbeddingConfig,
    readonly steps: EmbeddingSteps,
    settings: ModelSettings,
  ) {
    super(encoder.config, encoder.parameters, tokenizer, settings);
    this.config = encoder.config;
    this.#forward = new EncoderPass(settings.device, encoder, settings.compute);
    this.#embedding = new EmbeddingPass(settings.device, encoder, steps, settings.compute);
  }

  /** Logits of the model's head, states, pooled output. */
  async forward(inputs: EncoderForwardInputs): Promise<EncoderOutput> {
    this.check();
    return this.#forward.run(inputs);
  }

  /** A vector of length 1 for each text, [D] each. Texts that are too long are cut, but for their last token. */
  override async embed(
    texts: readonly (Text | TextPair)[],
    options: EmbedOptions = {},
  ): Promise<Float32Array[]> {
    this.check();
    checkOptions('embed', options, ['pooling']);
    const { prompt, lowerCase } = this.embedding;
    const changed = (text: string): string => prompt + (lowerCase ? text.toLowerCase() : text);
    return this.#embedding.run(
      texts.map((text) => this.#cut(text, changed)),
      this.#poolings(options.pooling ?? this.embedding.pooling),
    );
  }

  /**
   * The class of each text, or of two texts together: what a cross-encoder says of a question and a passage.
   * @throws SwitchyardError ERR_UNSUPPORTED without a classifier of texts
   */
  override async classify(texts: readonly (Text | TextPair)[]): Promise<Classification[]> {
    const { probabilities } = await this.#classes('sequence-classification', texts);
    return probabilities.map((scores) => this.#classification(scores));
  }

  /** The class of each token of each text. @throws SwitchyardError ERR_UNSUPPORTED without a classifier of tokens */
  override async classifyTokens(
    texts: readonly (Text | TextPair)[],
  ): Promise<(Classification & { token: number })[][]> {
    const { probabilities, ids } = await this.#classes('token-classification', texts);
    const time = probabilities.length / Math.max(1, texts.length);
    return ids.map((row, b) =>
      row.map((token, t) => ({
        token,
        ...this.#classification(probabilities[b * time + t] as Float32Array),
      })),
    );
  }

  protected written(): WrittenParts {
    const { kind, config, embedding } = this;
    return { kind, config, parts: encoderParts(config), embedding };
  }

  protected async free(): Promise<void> {
    this.#forward.dispose();
    this.#embedding.dispose();
  }

  #poolings(pooling: Pooling | readonly Pooling[]): readonly Pooling[] {
    const wrong = [pooling].flat().find((each) => !POOLINGS.includes(each));
    const poolings = poolingsOf(pooling);
    if (wrong !== undefined || poolings.length === 0)
      throw mismatch('ERR_OPTION', 'embed', `pooling '${wrong ?? ''}'`, POOLINGS.join(', '));
    const width = poolings.length * this.config.stack.dModel;
    const { width: wanted } = this.steps;
    if (wanted === null || wanted === width) return poolings;
    throw mismatch(
      'ERR_OPTION',
      'embed',
      `pooling ${poolings.join(' and ')}, ${width} numbers`,
      `the ${wanted} that the model's Dense module takes`,
    );
  }

  /** @param changed of strings, before they are encoded */
  #cut(text: Text | TextPair, changed = (text: string): string => text): SegmentedText {
    const most = Math.min(this.config.maxSeqLen, this.embedding.maxTokens ?? Number.POSITIVE_INFINITY);
    if (typeof text === 'object' && 'pair' in text) {
      const { ids, types } = this.tokenizer.encodePair(changed(text.text), changed(text.pair), {
        maxTokens: most,
      });
      // tokenizers name segments for models without any, too
      return { ids, types: this.config.tokenTypes > 1 ? types : null };
    }
    const ids = this.ids(typeof text === 'string' ? changed(text) : text);
    if (ids.length === 0) throw mismatch('ERR_OPTION', 'model', 'a text without tokens', 'at least one');
    const cut = ids.length <= most ? ids : [...ids.slice(0, most - 1), ids[ids.length - 1] as number];
    return { ids: cut, types: null };
  }

  /** Probabilities [C] of each text, or of each place of a padded batch. */
  async #classes(
    head: 'sequence-classification' | 'token-classification',
    texts: readonly (Text | TextPair)[],
  ): Promise<{ probabilities: Float32Array[]; ids: (readonly number[])[] }> {
    this.check();
    if (this.config.head !== head)
      throw mismatch('ERR_UNSUPPORTED', 'classify', `a model with head '${this.config.head}'`, `'${head}'`);
    const rows = texts.map((text) => this.#cut(text));
    const ids = rows.map((row) => row.ids);
    if (rows.length === 0) return { probabilities: [], ids };
    const time = Math.max(...ids.map((row) => row.length));
    const padded = (row: readonly number[]): number[] => Array.from({ length: time }, (_, t) => row[t] ?? 0);
    const out = await this.#forward.run({
      inputIds: ids.map(padded),
      attentionMask: ids.map((row) => padded(row.map(() => 1))),
      tokenTypeIds: rows.map(({ types }) => padded(types ?? [])),
    });
    const values = (await out.probabilities?.data()) as Float32Array;
    const count = this.config.labels.length;
    return {
      ids,
      probabilities: Array.from({ length: values.length / count }, (_, i) =>
        values.slice(i * count, (i + 1) * count),
      ),
    };
  }

  #classification(values: Float32Array): Classification {
    const { labels } = this.config;
    let best = 0;
    for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
    const scores = Object.fromEntries(labels.map((label, i) => [label, values[i] as number]));
    return { label: labels[best] as string, score: values[best] as number, scores };
  }
}
