/** What a decoder is, in our own names. */
import { SwitchyardError } from '../../core/errors.js';
import type { Activation } from '../../core/ops/elementwise.js';
import type { GateClamp } from '../../core/ops/hidden.js';
import type { Gating, GatingName } from '../../moe/gating/index.js';
import type { KvWidths } from '../../nn/kv-cache.js';
import type { RopeConfig } from '../../nn/rope.js';

export interface NormConfig {
  /** Root mean square (Zhang & Sennrich 2019), or mean and variance (Ba et al. 2016). */
  readonly kind: 'rms' | 'layer';
  readonly eps: number;
  /** Added to the weights of RMS norms. */
  readonly weightOffset: number;
  /** Layer norms with a bias. */
  readonly bias: boolean;
}

/**
 * Where a block has its norms, N; A is attention, F the feed-forward layer:
 * - pre: x + A(N x), then x + F(N x)
 * - post: N(x + A x), then N(x + F x)
 * - sandwich: x + N A(N x), then x + N F(N x)
 * - parallel: x + A(N x) + F(N x), one norm for both
 * - parallel-two-norms: the same, a norm for each
 */
export const BLOCK_KINDS = ['pre', 'post', 'sandwich', 'parallel', 'parallel-two-norms'] as const;
export type BlockKind = (typeof BLOCK_KINDS)[number];

export interface MoEConfig {
  readonly nExperts: number;
  readonly topK: number;
  /** Inner width of one expert. */
  readonly dFf: number;
  readonly gating: GatingName | Gating;
  /** The layers that are sparse, rising. */
  readonly layers: readonly number[];
  /** Experts with biases. */
  readonly bias: boolean;
  readonly routerBias: boolean;
  /** A bias on the scores for the choice only (DeepSeek-AI 2024). */
  readonly selectionBias: boolean;
  /** Inner width of the experts that every token meets, together; 0: none. */
  readonly dFfShared: number;
  /** Their output is multiplied by sigmoid(x · w). */
  readonly sharedGate: boolean;
  readonly clamp: GateClamp | null;
}

/** Keys and values of all heads from one small vector of a token (DeepSeek-AI 2024, DeepSeek-V2, section 2.1). */
export interface LatentConfig {
  /** Width that queries pass through; null: none. */
  readonly queryRank: number | null;
  /** Width of the vector that the cache holds, beside the rotary part. */
  readonly rank: number;
  /** Sizes of a head that turn, of `headDim`; all heads share one rotary key. */
  readonly rotaryDim: number;
  readonly valueDim: number;
  /** Of the norms of both small vectors. */
  readonly normEps: number;
}

export interface DecoderConfig {
  /** model_type of the family. */
  readonly family: string;
  readonly dModel: number;
  readonly nLayers: number;
  readonly nHeads: number;
  readonly nKvHeads: number;
  /** Of queries and keys. */
  readonly headDim: number;
  /** Inner width of dense feed-forward layers. */
  readonly dFf: number;
  readonly vocabSize: number;
  readonly maxSeqLen: number;

  readonly norm: NormConfig;
  readonly block: BlockKind;
  /** A norm behind the last layer. */
  readonly finalNorm: boolean;
  /** Factor on what attention and feed-forward add to x. */
  readonly residualScale: number;

  /** Null: none turn. */
  readonly rope: RopeConfig | null;
  /** A learned vector for each position, added to the embedding; position p has row p + offset. */
  readonly learnedPositions: { readonly rows: number; readonly offset: number } | null;
  /** Scores fall with the distance, in each head by another slope (Press et al. 2022). */
  readonly alibi: boolean;

  /** Width of the embedding and of what the head reads; others than dModel are projected. */
  readonly dEmbedding: number;
  readonly embeddingScale: number;
  readonly embeddingNorm: boolean;
  readonly tiedEmbeddings: boolean;
  readonly headBias: boolean;
  readonly logitScale: number;

  readonly queryKeyValueBias: boolean;
  readonly outputBias: boolean;
  /** Queries and keys are normalised before they turn: each head by itself, or all heads of a token as one vector. */
  readonly qkNorm: 'head' | 'heads' | null;
  /** Bound on the absolute values of queries, keys and values. */
  readonly clipQkv: number | null;
  /** Factor on the scores; null: 1/√headDim. */
  readonly attentionScale: number | null;
  /** Each head has a score that takes part in the softmax and mixes nothing in (gpt-oss; Xiao et al. 2024). */
  readonly sinks: boolean;
  /** Sliding window in tokens; 0: none. */
  readonly window: number;
  /** The layers that have the window; null: all. */
  readonly windowLayers: readonly number[] | null;
  readonly latent: LatentConfig | null;

  readonly activation: Activation;
  /** down(act(gate x) · up x), else down(act(up x)); experts too. */
  readonly gated: boolean;
  readonly feedForwardBias: boolean;
  readonly moe: MoEConfig | null;
  /** Layers behind the last that predict tokens further ahead (DeepSeek-AI 2024, DeepSeek-V3, section 2.2). */
  readonly nPredictionLayers: number;

  readonly bosId: number | null;
  readonly eosIds: readonly number[];
}

/** What the layers of a model are, whatever stands before and behind them. */
export type LayersConfig = Omit<
  DecoderConfig,
  | 'family'
  | 'vocabSize'
  | 'maxSeqLen'
  | 'dEmbedding'
  | 'embeddingScale'
  | 'tiedEmbeddings'
  | 'headBias'
  | 'logitScale'
  | 'nPredictionLayers'
  | 'bosId'
  | 'eosIds'
>;

/** What the layers of most models have in common, decoders and others. */
export const USUAL_LAYERS = {
  residualScale: 1,
  learnedPositions: null,
  alibi: false,
  embeddingNorm: false,
  queryKeyValueBias: false,
  outputBias: false,
  qkNorm: null,
  clipQkv: null,
  attentionScale: null,
  sinks: false,
  window: 0,
  windowLayers: null,
  latent: null,
  feedForwardBias: false,
  moe: null,
} as const satisfies Partial<LayersConfig>;

/** What most decoders have in common; a family says what is different. */
export const USUAL = {
  ...USUAL_LAYERS,
  block: 'pre',
  finalNorm: true,
  embeddingScale: 1,
  tiedEmbeddings: false,
  headBias: false,
  logitScale: 1,
  gated: true,
  nPredictionLayers: 0,
} as const satisfies Partial<DecoderConfig>;

/** What most sparse layers have in common. */
export const USUAL_MOE = {
  bias: false,
  routerBias: false,
  selectionBias: false,
  dFfShared: 0,
  sharedGate: false,
  clamp: null,
} as const satisfies Partial<MoEConfig>;

export const rmsNorm = (eps: number, weightOffset = 0): NormConfig => ({
  kind: 'rms',
  eps,
  weightOffset,
  bias: false,
});
export const layerNorm = (eps: number, { bias = true } = {}): NormConfig => ({
  kind: 'layer',
  eps,
  weightOffset: 0,
  bias,
});

/** 0, 1, … of all layers. */
export const allLayers = (nLayers: number, from = 0): number[] =>
  Array.from({ length: Math.max(0, nLayers - from) }, (_, i) => from + i);

/** Window of one layer; 0: none. */
export const windowOf = ({ window, windowLayers }: LayersConfig, layer: number): number =>
  windowLayers === null || windowLayers.includes(layer) ? window : 0;

type Cached = Pick<DecoderConfig, 'nKvHeads' | 'headDim' | 'latent'>;

/** What a layer keeps of a token. */
export const cacheWidth = ({ nKvHeads, headDim, latent }: Cached): KvWidths =>
  latent
    ? { heads: 1, key: latent.rank + latent.rotaryDim, value: latent.rank, valuesInKeys: true }
    : { heads: nKvHeads, key: headDim, value: headDim };

/** The same for every layer of a model; layers that predict further ahead keep theirs in a cache of their own, once asked for. */
export const cacheWidths = (config: Cached & Pick<DecoderConfig, 'nLayers'>): KvWidths[] =>
  Array.from({ length: config.nLayers }, () => cacheWidth(config));

/** Refuses sizes that contradict each other, which no single key can show. */
export function checkConfig(config: DecoderConfig, where: string): DecoderConfig {
  const { nHeads, nKvHeads, headDim, rope, moe, nLayers, latent } = config;
  const refuse = (got: string, expected: string): SwitchyardError =>
    new SwitchyardError('ERR_FORMAT', `[${where}] got ${got}, expected ${expected}`);
  if (nHeads % nKvHeads !== 0)
    throw refuse(`${nHeads} query heads for ${nKvHeads} key heads`, 'a multiple of the key heads');
  if (headDim < 1)
    throw refuse(`${nHeads} heads for a width of ${config.dModel}`, 'fewer heads than the width');
  if (latent && latent.rotaryDim >= headDim)
    throw refuse(`${latent.rotaryDim} rotary sizes of a head of ${headDim}`, 'fewer than the head');
  if (latent && rope?.dim !== latent.rotaryDim)
    throw refuse(`${rope?.dim ?? 'no'} rotary sizes`, `${latent.rotaryDim}, the rotary part of a head`);
  if (rope && (!Number.isInteger(rope.dim) || rope.dim < 2 || rope.dim > headDim || rope.dim % 2 !== 0))
    throw refuse(`${rope.dim} rotary sizes of a head of ${headDim}`, 'an even number, at most the head');
  if (moe && moe.topK > moe.nExperts)
    throw refuse(`${moe.topK} experts per token of ${moe.nExperts} experts`, 'at most all of them');
  if (moe?.layers.some((layer) => layer < 0 || layer >= nLayers))
    throw refuse(`sparse layers ${moe.layers.join(', ')}`, `layers from 0 to ${nLayers - 1}`);
  return config;
}
