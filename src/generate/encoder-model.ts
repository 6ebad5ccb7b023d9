/** The handle of an encoder: forward passes, vectors of texts, classes. */
import { checkOptions, mismatch } from '../core/errors.js';
import { EmbeddingPass } from '../models/embedding-pass.js';
import { type Encoder, encoderParts } from '../models/encoder.js';
import { type EncoderForwardInputs, type EncoderOutput, EncoderPass } from '../models/encoder-forward.js';
import { type EmbeddingConfig, POOLINGS, type Pooling } from '../models/pooling.js';
import type { EncoderConfig } from '../models/stack-config.js';
import type { WrittenParts } from '../models/write/index.js';
import type { TokenizerSource } from './load-options.js';
import { Model, type ModelSettings, type Text } from './model.js';

export interface EmbedOptions {
  /** Default: what the model's folder says (sentence-transformers), else 'mean'. */
  pooling?: Pooling;
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
    settings: ModelSettings,
  ) {
    super(encoder.config, encoder.parameters, tokenizer, settings);
    this.config = encoder.config;
    this.#forward = new EncoderPass(settings.device, encoder, settings.compute);
    this.#embedding = new EmbeddingPass(settings.device, encoder, settings.compute);
  }

  /** Logits of the model's head, states, pooled output. */
  async forward(inputs: EncoderForwardInputs): Promise<EncoderOutput> {
    this.check();
    return this.#forward.run(inputs);
  }

  /** A vector of length 1 for each text, [D] each. Texts that are too long are cut, but for their last token. */
  override async embed(texts: readonly Text[], options: EmbedOptions = {}): Promise<Float32Array[]> {
    this.check();
    checkOptions('embed', options, ['pooling']);
    const { pooling = this.embedding.pooling } = options;
    if (!POOLINGS.includes(pooling))
      throw mismatch('ERR_OPTION', 'embed', `pooling '${pooling}'`, POOLINGS.join(' or '));
    return this.#embedding.run(
      texts.map((text) => this.#cut(text)),
      pooling,
    );
  }

  /** The class of each text. @throws SwitchyardError ERR_UNSUPPORTED without a classifier of texts */
  override async classify(texts: readonly Text[]): Promise<Classification[]> {
    const { probabilities } = await this.#classes('sequence-classification', texts);
    return probabilities.map((scores) => this.#classification(scores));
  }

  /** The class of each token of each text. @throws SwitchyardError ERR_UNSUPPORTED without a classifier of tokens */
  override async classifyTokens(texts: readonly Text[]): Promise<(Classification & { token: number })[][]> {
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

  #cut(text: Text): readonly number[] {
    const ids = this.ids(text);
    const most = Math.min(this.config.maxSeqLen, this.embedding.maxTokens ?? Number.POSITIVE_INFINITY);
    if (ids.length === 0) throw mismatch('ERR_OPTION', 'model', 'a text without tokens', 'at least one');
    return ids.length <= most ? ids : [...ids.slice(0, most - 1), ids[ids.length - 1] as number];
  }

  /** Probabilities [C] of each text, or of each place of a padded batch. */
  async #classes(
    head: 'sequence-classification' | 'token-classification',
    texts: readonly Text[],
  ): Promise<{ probabilities: Float32Array[]; ids: (readonly number[])[] }> {
    this.check();
    if (this.config.head !== head)
      throw mismatch('ERR_UNSUPPORTED', 'classify', `a model with head '${this.config.head}'`, `'${head}'`);
    const ids = texts.map((text) => this.#cut(text));
    if (ids.length === 0) return { probabilities: [], ids };
    const time = Math.max(...ids.map((row) => row.length));
    const fill = (row: readonly number[], value: (t: number) => number): number[] =>
      Array.from({ length: time }, (_, t) => (t < row.length ? value(t) : 0));
    const out = await this.#forward.run({
      inputIds: ids.map((row) => fill(row, (t) => row[t] as number)),
      attentionMask: ids.map((row) => fill(row, () => 1)),
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
