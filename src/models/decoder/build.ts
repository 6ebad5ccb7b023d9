/** From a config and its parameters to the modules of a decoder: the one place that knows which part goes where. */
import type { PositionBias } from '../../core/ops/attention-scores.js';
import { tensor } from '../../core/tensor.js';
import type { CapacityOptions } from '../../moe/capacity.js';
import { MoELayer } from '../../moe/layer.js';
import { alibiSlopes } from '../../nn/alibi.js';
import { type AttendOptions, Attention } from '../../nn/attention.js';
import { CrossAttention } from '../../nn/cross-attention.js';
import { FeedForward } from '../../nn/feed-forward.js';
import { LatentAttention } from '../../nn/latent-attention.js';
import { Embedding, Linear } from '../../nn/linear.js';
import type { Norm } from '../../nn/norm.js';
import { Block, type BlockParts } from './block.js';
import {
  type DecoderConfig,
  type LatentConfig,
  type LayersConfig,
  type MoEConfig,
  rmsNorm,
  windowOf,
} from './config.js';
import { listParts, type ParameterSource, type Part, Scope } from './parameters.js';

export interface DecoderParts {
  readonly embedding: Embedding;
  readonly embeddingNorm: Norm | null;
  /** From the embedding's width to the model's, where they differ. */
  readonly projectIn: Linear | null;
  /** Learned positions. */
  readonly positions: Embedding | null;
  readonly layers: readonly Block[];
  readonly finalNorm: Norm | null;
  readonly projectOut: Linear | null;
  readonly head: Linear;
  /** Each predicts the token after the one that the layers before it predict. */
  readonly predictions: readonly PredictionLayer[];
}

/** One module of multi-token prediction (DeepSeek-AI 2024, DeepSeek-V3, section 2.2); embedding and head are the model's. */
export interface PredictionLayer {
  readonly tokenNorm: Norm;
  readonly hiddenNorm: Norm;
  /** [D, 2·D]: of the token's embedding beside the hidden state. */
  readonly projection: Linear;
  readonly block: Block;
  readonly norm: Norm;
}

/** Every parameter of a decoder, in the order of a forward pass; a tied head is the embedding and stands once. */
export const decoderParts = (config: DecoderConfig): Part[] =>
  listParts((source) => buildDecoder(config, source));

export function buildDecoder(c: DecoderConfig, source: ParameterSource): DecoderParts {
  const root = new Scope(source);
  const { dModel, dEmbedding, vocabSize, learnedPositions: learned } = c;
  const embedding = root.matrix('embedding', 'embedding', vocabSize, dEmbedding);
  const narrow = dEmbedding !== dModel;
  return {
    embedding: new Embedding(embedding),
    embeddingNorm: c.embeddingNorm ? root.norm('embedding_norm', dModel, c.norm) : null,
    projectIn: narrow ? root.linear('embedding_projection', 'embedding', [dModel, dEmbedding]) : null,
    positions: learned ? new Embedding(root.matrix('positions', 'embedding', learned.rows, dModel)) : null,
    layers: Array.from({ length: c.nLayers }, (_, i) => buildBlock(c, i, root.at(`layers.${i}`))),
    finalNorm: c.finalNorm ? root.norm('final_norm', dModel, c.norm) : null,
    projectOut: narrow ? root.linear('head_projection', 'head', [dEmbedding, dModel]) : null,
    head: new Linear(
      c.tiedEmbeddings ? embedding : root.matrix('head', 'head', vocabSize, dEmbedding),
      c.headBias ? root.vector('head.bias', 'head', vocabSize) : null,
    ),
    predictions: Array.from({ length: c.nPredictionLayers }, (_, j) =>
      buildPrediction(c, c.nLayers + j, root),
    ),
  };
}

function buildPrediction(c: DecoderConfig, index: number, root: Scope): PredictionLayer {
  const at = root.at(`layers.${index}`);
  const { dModel, norm } = c;
  return {
    tokenNorm: at.norm('token_norm', dModel, norm),
    hiddenNorm: at.norm('hidden_norm', dModel, norm),
    projection: at.linear('projection', 'feedForward', [dModel, 2 * dModel]),
    block: buildBlock(c, index, at),
    norm: at.norm('head_norm', dModel, norm),
  };
}

/** What a layer has besides where it is not a decoder's alone. */
export interface BlockOptions {
  /** Attention over a memory. */
  readonly memory?: boolean;
  /** Bias on the scores of self-attention by distance. */
  readonly positionBias?: PositionBias | null;
  /** Places of an expert. */
  readonly capacity?: CapacityOptions | null;
}

export function buildBlock(
  c: LayersConfig,
  index: number,
  at: Scope,
  { memory = false, positionBias = null, capacity = null }: BlockOptions = {},
): Block {
  const norm = (name: string) => at.norm(name, c.dModel, c.norm);
  const sandwich = c.block === 'sandwich';
  const norms: BlockParts['norms'] = {
    attention: norm('attention_norm'),
    ...(sandwich ? { attentionPost: norm('attention_post_norm') } : {}),
    ...(memory ? { memory: norm('memory_norm') } : {}),
    ...(c.block === 'parallel' ? {} : { feedForward: norm('feed_forward_norm') }),
    ...(sandwich ? { feedForwardPost: norm('feed_forward_post_norm') } : {}),
  };
  const attention = c.latent
    ? buildLatentAttention(c, c.latent, index, at.at('attention'))
    : buildAttention(c, index, at.at('attention'), positionBias);
  const crossAttention = memory ? buildCrossAttention(c, at.at('memory')) : null;
  // layers behind the last are of the kind of the last ones
  const sparse = c.moe && (index >= c.nLayers || c.moe.layers.includes(index)) ? c.moe : null;
  const feedForward = sparse ? buildSparse(c, sparse, at, capacity) : buildDense(c, at);
  return new Block(c.block, c.residualScale, { attention, crossAttention, feedForward, norms });
}

function buildAttention(
  c: LayersConfig,
  index: number,
  at: Scope,
  positionBias: PositionBias | null,
): Attention {
  const { dModel, nHeads, nKvHeads, headDim, qkNorm } = c;
  const [wide, narrow] = [nHeads * headDim, nKvHeads * headDim];
  const project = (name: string, rows: number) =>
    at.linear(name, 'attention', [rows, dModel], c.queryKeyValueBias);
  const headNorm = (name: string, all: number) =>
    qkNorm === null ? null : at.norm(name, qkNorm === 'heads' ? all : headDim, c.norm);
  return new Attention(
    {
      nHeads,
      nKvHeads,
      headDim,
      ropeInterleaved: c.rope?.interleaved ?? false,
      normAcross: qkNorm ?? 'head',
      clip: c.clipQkv,
      attend: { ...attendOptions(c, index, at), ...(positionBias ? { positionBias } : {}) },
    },
    project('q', wide),
    project('k', narrow),
    project('v', narrow),
    at.linear('o', 'attention', [dModel, wide], c.outputBias),
    headNorm('q_norm', wide),
    headNorm('k_norm', narrow),
  );
}

function buildLatentAttention(
  c: LayersConfig,
  latent: LatentConfig,
  index: number,
  at: Scope,
): LatentAttention {
  const { dModel, nHeads, headDim } = c;
  const { queryRank, rank, rotaryDim, valueDim } = latent;
  const plainDim = headDim - rotaryDim;
  const norm = (name: string, size: number) => at.norm(name, size, rmsNorm(latent.normEps));
  const linear = (name: string, rows: number, columns: number, bias: boolean) =>
    at.linear(name, 'attention', [rows, columns], bias);
  const ropeInterleaved = c.rope?.interleaved ?? false;
  const attend = attendOptions(c, index, at);
  return new LatentAttention(
    { nHeads, plainDim, rotaryDim, rank, valueDim, ropeInterleaved, attend },
    {
      queryDown: queryRank === null ? null : linear('q_down', queryRank, dModel, c.queryKeyValueBias),
      queryNorm: queryRank === null ? null : norm('q_down_norm', queryRank),
      queryUp: linear(queryRank === null ? 'q' : 'q_up', nHeads * headDim, queryRank ?? dModel, false),
      down: linear('kv_down', rank + rotaryDim, dModel, c.queryKeyValueBias),
      norm: norm('kv_down_norm', rank),
      keyUp: at.matrix('k_up', 'attention', nHeads, rank, plainDim),
      valueUp: at.matrix('v_up', 'attention', nHeads, valueDim, rank),
      output: linear('o', dModel, nHeads * valueDim, c.outputBias),
    },
  );
}

/** What happens to a layer's scores. */
const attendOptions = (c: LayersConfig, index: number, at: Scope): AttendOptions => ({
  scale: c.attentionScale ?? 1 / Math.sqrt(c.headDim),
  window: windowOf(c, index),
  slopes: c.alibi ? tensor(alibiSlopes(c.nHeads)) : null,
  sinks: c.sinks ? at.vector('sinks', 'attention', c.nHeads) : null,
});

function buildCrossAttention(c: LayersConfig, at: Scope): CrossAttention {
  const { dModel, nHeads, headDim, attentionScale } = c;
  const wide = nHeads * headDim;
  const project = (name: string) => at.linear(name, 'attention', [wide, dModel], c.queryKeyValueBias);
  return new CrossAttention(
    { nHeads, headDim, attend: attentionScale === null ? {} : { scale: attentionScale } },
    project('q'),
    project('k'),
    project('v'),
    at.linear('o', 'attention', [dModel, wide], c.outputBias),
  );
}

function buildDense(c: LayersConfig, at: Scope): FeedForward {
  const { dModel, dFf, feedForwardBias: bias } = c;
  const inner = at.at('feed_forward');
  const gate = c.gated ? inner.linear('gate', 'feedForward', [dFf, dModel], bias) : null;
  const up = inner.linear('up', 'feedForward', [dFf, dModel], bias);
  return new FeedForward(gate, up, inner.linear('down', 'feedForward', [dModel, dFf], bias), c.activation);
}

function buildSparse(c: LayersConfig, moe: MoEConfig, at: Scope, capacity: CapacityOptions | null): MoELayer {
  const { dModel, activation, gated } = c;
  const { nExperts, topK, dFf, gating, bias, dFfShared, sharedGate, selectionBias, clamp } = moe;
  const router = at.linear('router', 'router', [nExperts, dModel], moe.routerBias);
  const experts = at.at('experts');
  const stack = (name: string, rows: number, columns: number) =>
    experts.matrix(name, 'experts', nExperts, rows, columns);
  const biasOf = (name: string, size: number) =>
    bias ? experts.vector(`${name}.bias`, 'experts', nExperts, size) : null;
  const shared = at.at('shared');
  const always = (name: string, rows: number, columns: number) =>
    shared.linear(name, 'feedForward', [rows, columns]);
  return new MoELayer(
    {
      dModel,
      dFf,
      nExperts,
      topK,
      gating,
      activation,
      clamp,
      gated,
      bias,
      dFfShared,
      sharedGate,
      selectionBias,
      capacity,
    },
    {
      router,
      selectionBias: selectionBias ? at.vector('router.selection_bias', 'router', nExperts) : null,
      experts: {
        gate: gated ? stack('gate', dFf, dModel) : null,
        gateBias: gated ? biasOf('gate', dFf) : null,
        up: stack('up', dFf, dModel),
        upBias: biasOf('up', dFf),
        down: stack('down', dModel, dFf),
        downBias: biasOf('down', dModel),
        split: experts.split(),
      },
      shared:
        dFfShared === 0
          ? null
          : {
              gate: gated ? always('gate', dFfShared, dModel) : null,
              up: always('up', dFfShared, dModel),
              down: always('down', dModel, dFfShared),
              outputGate: sharedGate ? at.linear('shared_gate', 'feedForward', [1, dModel]) : null,
            },
    },
  );
}
