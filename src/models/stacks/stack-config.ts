/** What encoders and encoder-decoders are, in our own names: stacks of layers with a word or two before and behind them. */
import { mismatch } from '../../core/errors.js';
import type { CapacityOptions } from '../../moe/capacity.js';
import { type LayersConfig, USUAL_LAYERS } from '../decoder/config.js';

export interface StackConfig extends LayersConfig {
  /** Bias on the scores of self-attention by distance: T5's buckets (Raffel et al. 2020, section 2.1). */
  readonly relativeBias: { readonly buckets: number; readonly maxDistance: number } | null;
  /** Sines, then cosines, of position + offset are added to the embedding; positions count real tokens. */
  readonly sinusoids: { readonly offset: number } | null;
  /** Layers attend over a memory too. */
  readonly memory: boolean;
  /** Places of an expert where a whole sequence passes; a step over a cache never drops. Null: dropless. */
  readonly capacity: CapacityOptions | null;
  /** All sequences of a batch share the places, padding counted; else each has its own. */
  readonly sharesCapacity: boolean;
  /** Padding chooses experts and takes their places as tokens do. */
  readonly routesPadding: boolean;
}

/** What most stacks have in common; a family says what is different. */
export const USUAL_STACK = {
  ...USUAL_LAYERS,
  finalNorm: false,
  rope: null,
  gated: false,
  relativeBias: null,
  sinusoids: null,
  memory: false,
  capacity: null,
  sharesCapacity: false,
  routesPadding: false,
} as const satisfies Partial<StackConfig>;

interface SharedConfig {
  /** model_type of the family. */
  readonly family: string;
  readonly vocabSize: number;
  readonly maxSeqLen: number;
  /** Factor on token embeddings. */
  readonly embeddingScale: number;
  readonly bosId: number | null;
  readonly eosIds: readonly number[];
}

/** What stands on the last layer of an encoder. */
export type EncoderHead = 'masked-lm' | 'sequence-classification' | 'token-classification' | 'none';

export interface EncoderConfig extends SharedConfig {
  readonly stack: StackConfig;
  /** Kinds of segments; 0: none. */
  readonly tokenTypes: number;
  readonly head: EncoderHead;
  /** The masked-word head's matrix is the embedding. */
  readonly tiedEmbeddings: boolean;
  /** The first token passes through a dense layer with tanh. */
  readonly pooler: boolean;
  /** Names of classes, by index; empty without a classifier. */
  readonly labels: readonly string[];
  /** How scores of classes become probabilities. */
  readonly probabilities: 'softmax' | 'sigmoid';
}

export interface EncoderDecoderConfig extends SharedConfig {
  readonly encoder: StackConfig;
  readonly decoder: StackConfig;
  /** The head is the embedding. */
  readonly tiedEmbeddings: boolean;
  /** Factor on the decoder's output before the head. */
  readonly outputScale: number;
  readonly headBias: boolean;
  /** First token of the decoder. */
  readonly startId: number;
  /** What generation puts behind the start token, where a model demands one. */
  readonly forcedBosId: number | null;
}

/** Refuses sizes that contradict each other, which no single key can show. */
export function checkStack(c: StackConfig, where: string): StackConfig {
  const refuse = (got: string, expected: string) => mismatch('ERR_FORMAT', where, got, expected);
  if (c.headDim < 1)
    throw refuse(`${c.nHeads} heads for a width of ${c.dModel}`, 'fewer heads than the width');
  if (c.moe && c.moe.topK > c.moe.nExperts)
    throw refuse(`${c.moe.topK} experts per token of ${c.moe.nExperts} experts`, 'at most all of them');
  if (c.sinusoids && c.dModel < 4) throw refuse(`a width of ${c.dModel}`, '4 or more for sines and cosines');
  return c;
}
