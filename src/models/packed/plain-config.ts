/** A decoder's config as plain data, as packed files hold it, and its strict reading. */
import { SwitchyardError } from '../../core/errors.js';
import { ACTIVATIONS, type Activation } from '../../core/ops/elementwise.js';
import type { GateClamp } from '../../core/ops/hidden.js';
import { gatingForm, gatingFrom } from '../../moe/gating/index.js';
import {
  BLOCK_KINDS,
  checkConfig,
  type DecoderConfig,
  type LatentConfig,
  type MoEConfig,
  type NormConfig,
} from '../decoder/config.js';
import { PlainReader } from './plain-reader.js';
import { readRopeConfig } from './plain-rope.js';

/** ERR_UNSUPPORTED for a gating policy that cannot be written down. */
export function plainConfig(config: DecoderConfig): Readonly<Record<string, unknown>> {
  const { moe } = config;
  return sorted({ ...config, moe: moe && { ...moe, gating: gatingForm(moe.gating) } });
}

/** The keys of all objects in one order, whoever made them: equal configs then are equal bytes. */
function sorted<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return Object.fromEntries(entries.map(([key, inner]) => [key, sorted(inner)])) as T;
}

/** What `plainConfig` wrote, every key of it and no other. @throws SwitchyardError ERR_FORMAT, naming the key */
export function readPlainConfig(source: Readonly<Record<string, unknown>>, where: string): DecoderConfig {
  const c = new PlainReader(source, `${where}: config`);
  // Every field by name: a new one is a type error here.
  const config: Required<DecoderConfig> = {
    family: c.text('family'),
    dModel: c.size('dModel', 'width'),
    nLayers: c.size('nLayers', 'layers'),
    nHeads: c.size('nHeads', 'heads'),
    nKvHeads: c.size('nKvHeads', 'heads'),
    headDim: c.size('headDim', 'width'),
    dFf: c.size('dFf', 'width'),
    vocabSize: c.size('vocabSize', 'vocabulary'),
    maxSeqLen: c.size('maxSeqLen', 'length'),
    norm: readNorm(c.part('norm')),
    block: c.name('block', BLOCK_KINDS),
    finalNorm: c.flag('finalNorm'),
    residualScale: c.positive('residualScale'),
    rope: c.maybe('rope', readRopeConfig),
    learnedPositions: c.maybe('learnedPositions', readPositions),
    alibi: c.flag('alibi'),
    dEmbedding: c.size('dEmbedding', 'width'),
    embeddingScale: c.positive('embeddingScale'),
    embeddingNorm: c.flag('embeddingNorm'),
    tiedEmbeddings: c.flag('tiedEmbeddings'),
    headBias: c.flag('headBias'),
    logitScale: c.positive('logitScale'),
    queryKeyValueBias: c.flag('queryKeyValueBias'),
    outputBias: c.flag('outputBias'),
    qkNorm: c.raw('qkNorm') === undefined ? null : c.name('qkNorm', ['head', 'heads'] as const),
    clipQkv: c.optional('clipQkv'),
    attentionScale: c.optional('attentionScale'),
    sinks: c.flag('sinks'),
    window: c.count('window', 'length'),
    windowLayers: c.raw('windowLayers') === undefined ? null : c.layers('windowLayers'),
    latent: c.maybe('latent', readLatent),
    activation: c.name('activation', Object.keys(ACTIVATIONS) as Activation[]),
    gated: c.flag('gated'),
    feedForwardBias: c.flag('feedForwardBias'),
    moe: c.maybe('moe', readMoE),
    nPredictionLayers: c.count('nPredictionLayers', 'layers'),
    bosId: c.ids('bosId')[0] ?? null,
    eosIds: c.ids('eosIds'),
  };
  c.finish();
  return checkConfig(config, where);
}

function readNorm(c: PlainReader): NormConfig {
  const norm: Required<NormConfig> = {
    kind: c.name('kind', ['rms', 'layer'] as const),
    eps: c.positive('eps'),
    weightOffset: c.count('weightOffset', 'width'),
    bias: c.flag('bias'),
  };
  c.finish();
  return norm;
}

function readPositions(c: PlainReader): { rows: number; offset: number } {
  const positions = { rows: c.size('rows', 'length'), offset: c.count('offset', 'length') };
  c.finish();
  return positions;
}

function readLatent(c: PlainReader): LatentConfig {
  const latent: Required<LatentConfig> = {
    queryRank: c.raw('queryRank') === undefined ? null : c.size('queryRank', 'width'),
    rank: c.size('rank', 'width'),
    rotaryDim: c.size('rotaryDim', 'width'),
    valueDim: c.size('valueDim', 'width'),
    normEps: c.positive('normEps'),
  };
  c.finish();
  return latent;
}

function readClamp(c: PlainReader): GateClamp {
  const clamp: Required<GateClamp> = { limit: c.positive('limit'), slope: c.positive('slope') };
  c.finish();
  return clamp;
}

function readMoE(c: PlainReader): MoEConfig {
  const gating = c.part('gating');
  const moe: Required<MoEConfig> = {
    nExperts: c.int('nExperts', 'experts'),
    topK: c.int('topK', 'experts'),
    dFf: c.int('dFf', 'width'),
    gating: policyOf(gating),
    layers: c.layers('layers'),
    bias: c.flag('bias'),
    routerBias: c.flag('routerBias'),
    selectionBias: c.flag('selectionBias'),
    dFfShared: c.count('dFfShared', 'width'),
    sharedGate: c.flag('sharedGate'),
    clamp: c.maybe('clamp', readClamp),
  };
  c.finish();
  return moe;
}

function policyOf(c: PlainReader): MoEConfig['gating'] {
  const name = c.text('name');
  const options = c.part('options').source;
  c.finish();
  try {
    return gatingFrom(name, options);
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    throw new SwitchyardError('ERR_FORMAT', `[${c.where}] ${error.message}`, { cause: error });
  }
}
