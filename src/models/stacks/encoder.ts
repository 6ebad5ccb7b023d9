/** An encoder: every token sees all tokens of its text. */
import type { ComputeMode } from '../../core/format.js';
import { add, mul } from '../../core/ops/elementwise.js';
import type { Tensor } from '../../core/tensor.js';
import { Embedding, Linear, type Matrix } from '../../nn/linear.js';
import {
  listParts,
  type ParameterMap,
  type ParameterSource,
  type Part,
  Scope,
  sourceOf,
} from '../decoder/parameters.js';
import { ClassifierHead, MaskedWordHead, Pooler, probabilitiesOf } from './heads.js';
import { bothWays, type Layout, realOf } from './layout.js';
import { buildStack, type Stack, type StackOutputs } from './stack.js';
import type { EncoderConfig } from './stack-config.js';

export interface EncoderParts {
  readonly embedding: Embedding;
  /** Kinds of segments. */
  readonly tokenTypes: Embedding | null;
  readonly stack: Stack;
  readonly pooler: Pooler | null;
  readonly head: MaskedWordHead | ClassifierHead | null;
}

/** Every parameter of an encoder, in the order of a forward pass. */
export const encoderParts = (config: EncoderConfig): Part[] =>
  listParts((source) => buildEncoder(config, source));

function buildEncoder(c: EncoderConfig, source: ParameterSource): EncoderParts {
  const root = new Scope(source);
  const { dModel } = c.stack;
  const embedding = root.matrix('embedding', 'embedding', c.vocabSize, dModel);
  return {
    embedding: new Embedding(embedding),
    tokenTypes:
      c.tokenTypes > 0 ? new Embedding(root.matrix('token_types', 'embedding', c.tokenTypes, dModel)) : null,
    stack: buildStack(c.stack, root),
    pooler: c.pooler ? new Pooler(root.linear('pooler', 'head', [dModel, dModel], true)) : null,
    head: buildHead(c, root, embedding),
  };
}

function buildHead(c: EncoderConfig, root: Scope, embedding: Matrix): MaskedWordHead | ClassifierHead | null {
  const { dModel, norm, activation } = c.stack;
  if (c.head === 'none') return null;
  if (c.head === 'masked-lm') {
    const transform = root.linear('head_transform', 'head', [dModel, dModel], true);
    const headNorm = root.norm('head_norm', dModel, norm);
    const words = c.tiedEmbeddings ? embedding : root.matrix('head', 'head', c.vocabSize, dModel);
    const bias = root.vector('head.bias', 'head', c.vocabSize);
    return new MaskedWordHead(transform, activation, headNorm, new Linear(words, bias));
  }
  return new ClassifierHead(c.head, root.linear('classes', 'head', [c.labels.length, dModel], true));
}

export interface EncoderInputs {
  /** i32 [N] */
  readonly tokens: Tensor;
  /** i32 [N] */
  readonly positions: Tensor;
  /** i32 [N] */
  readonly tokenTypes: Tensor;
  readonly layout: Layout;
  /** i32 [S]: the first row of each text. */
  readonly first: Tensor;
}

export interface EncoderOutputs extends StackOutputs {
  /** [N, V], [N, C] or [S, C]; null without a head. */
  readonly logits: Tensor | null;
  /** [S, D] */
  readonly pooled: Tensor | null;
  /** Of classes, of logits' shape. */
  readonly probabilities: Tensor | null;
}

export class Encoder {
  readonly parts: EncoderParts;

  /** @param parameters by the names of `encoderParts` */
  constructor(
    readonly config: EncoderConfig,
    readonly parameters: ParameterMap,
  ) {
    this.parts = buildEncoder(config, sourceOf(parameters));
  }

  /** Without a head. */
  states(inputs: Omit<EncoderInputs, 'first'>, compute: ComputeMode): StackOutputs {
    const { tokens, positions, tokenTypes, layout } = inputs;
    const { embedding, tokenTypes: types, stack } = this.parts;
    const { embeddingScale } = this.config;
    let embedded = embedding.forward(tokens);
    if (embeddingScale !== 1) embedded = mul(embedded, embeddingScale);
    if (types) embedded = add(embedded, types.forward(tokenTypes));
    const attend = bothWays(layout);
    return stack.forward(
      {
        tokens,
        embedded,
        positions,
        attend: () => attend,
        sequences: layout.sequences,
        real: realOf(layout),
      },
      compute,
    );
  }

  forward(inputs: EncoderInputs, compute: ComputeMode): EncoderOutputs {
    const { pooler, head } = this.parts;
    const states = this.states(inputs, compute);
    const pooled = pooler?.forward(states.last, inputs.first, compute) ?? null;
    if (!head) return { ...states, pooled, logits: null, probabilities: null };
    const read = head.kind === 'sequence-classification' ? (pooled as Tensor) : states.last;
    const logits = head.forward(read, compute);
    const classes = head.kind !== 'masked-lm';
    return {
      ...states,
      pooled,
      logits,
      probabilities: classes ? probabilitiesOf(logits, this.config.probabilities) : null,
    };
  }
}
