/** An encoder whose states are the memory of a decoder (Vaswani et al. 2017, section 3.1). */
import type { ComputeMode } from '../../core/format.js';
import { mul } from '../../core/ops/elementwise.js';
import type { Tensor } from '../../core/tensor.js';
import type { CrossAttention } from '../../nn/cross-attention.js';
import { Embedding, Linear } from '../../nn/linear.js';
import {
  listParts,
  type ParameterMap,
  type ParameterSource,
  type Part,
  Scope,
  sourceOf,
} from '../decoder/parameters.js';
import { bothWays, type Layout } from './layout.js';
import { buildStack, type Stack, type StackInputs, type StackOutputs } from './stack.js';
import type { EncoderDecoderConfig } from './stack-config.js';

export interface EncoderDecoderParts {
  /** Of both stacks. */
  readonly embedding: Embedding;
  readonly encoder: Stack;
  readonly decoder: Stack;
  readonly head: Linear;
}

/** Every parameter of an encoder-decoder, in the order of a forward pass; a tied head is the embedding and stands once. */
export const encoderDecoderParts = (config: EncoderDecoderConfig): Part[] =>
  listParts((source) => buildEncoderDecoder(config, source));

function buildEncoderDecoder(c: EncoderDecoderConfig, source: ParameterSource): EncoderDecoderParts {
  const root = new Scope(source);
  const { vocabSize } = c;
  const { dModel } = c.encoder;
  const embedding = root.matrix('embedding', 'embedding', vocabSize, dModel);
  return {
    embedding: new Embedding(embedding),
    encoder: buildStack(c.encoder, root.at('encoder')),
    decoder: buildStack(c.decoder, root.at('decoder')),
    head: new Linear(
      c.tiedEmbeddings ? embedding : root.matrix('head', 'head', vocabSize, dModel),
      c.headBias ? root.vector('head.bias', 'head', vocabSize) : null,
    ),
  };
}

export interface EncodeInputs {
  /** i32 [N] */
  readonly tokens: Tensor;
  /** i32 [N] */
  readonly positions: Tensor;
  readonly layout: Layout;
  /** bool [N]; null: all tokens are real. */
  readonly real: Tensor | null;
}

export type DecodeInputs = Omit<StackInputs, 'embedded'>;

export interface DecodeOutputs extends StackOutputs {
  /** [M, V] */
  readonly logits: Tensor;
}

export class EncoderDecoder {
  readonly parts: EncoderDecoderParts;

  /** @param parameters by the names of `encoderDecoderParts` */
  constructor(
    readonly config: EncoderDecoderConfig,
    readonly parameters: ParameterMap,
  ) {
    this.parts = buildEncoderDecoder(config, sourceOf(parameters));
  }

  encode({ tokens, positions, layout, real }: EncodeInputs, compute: ComputeMode): StackOutputs {
    const attend = bothWays(layout);
    const { sequences } = layout;
    return this.parts.encoder.forward(
      { tokens, embedded: this.#embed(tokens), positions, attend: () => attend, sequences, real },
      compute,
    );
  }

  /** Keys and values of each layer of the decoder for the encoder's states [M, D]: [M, H, C] each. */
  memory(states: Tensor, compute: ComputeMode): { k: Tensor; v: Tensor }[] {
    return this.parts.decoder.parts.layers.map(({ parts }) =>
      (parts.crossAttention as CrossAttention).memory(states, compute),
    );
  }

  decode(inputs: DecodeInputs, compute: ComputeMode): DecodeOutputs {
    const { decoder, head } = this.parts;
    const { outputScale } = this.config;
    const out = decoder.forward({ ...inputs, embedded: this.#embed(inputs.tokens) }, compute);
    const scaled = outputScale === 1 ? out.last : mul(out.last, outputScale);
    return { ...out, logits: head.forward(scaled, compute) };
  }

  #embed(tokens: Tensor): Tensor {
    const { embeddingScale } = this.config;
    const rows = this.parts.embedding.forward(tokens);
    return embeddingScale === 1 ? rows : mul(rows, embeddingScale);
  }
}
