/** A decoder's config as plain data, as packed files hold it, and its strict reading. */
import { SwitchyardError } from '../core/errors.js';
import { ACTIVATIONS, type Activation } from '../core/ops/elementwise.js';
import { gatingForm, gatingFrom } from '../moe/gating/index.js';
import type { RopeConfig, RopeScaling } from '../nn/rope.js';
import { ConfigReader, checkConfig, type DecoderConfig, type MoEConfig } from './config.js';

/** ERR_UNSUPPORTED for a gating policy that cannot be written down. */
export function plainConfig(config: DecoderConfig): Readonly<Record<string, unknown>> {
  const { moe } = config;
  return { ...config, moe: moe && { ...moe, gating: gatingForm(moe.gating) } };
}

/** What `plainConfig` wrote, every key of it and no other. @throws SwitchyardError ERR_FORMAT, naming the key */
export function readPlainConfig(source: Readonly<Record<string, unknown>>, where: string): DecoderConfig {
  const c = new PlainReader(source, `${where}: config`);
  // Every field by name: a new one is a type error here.
  const { windowLayers, ...config }: { [K in keyof Required<DecoderConfig>]: DecoderConfig[K] } = {
    family: c.text('family'),
    dModel: c.int('dModel', 'width'),
    nLayers: c.int('nLayers', 'layers'),
    nHeads: c.int('nHeads', 'heads'),
    nKvHeads: c.int('nKvHeads', 'heads'),
    headDim: c.int('headDim', 'width'),
    dFf: c.int('dFf', 'width'),
    vocabSize: c.int('vocabSize', 'vocabulary'),
    maxSeqLen: c.int('maxSeqLen', 'length'),
    normEps: c.positive('normEps'),
    activation: c.oneOf('activation', ACTIVATION_BY_NAME, ''),
    rope: readRopeConfig(c.part('rope')),
    window: c.int('window', 'length', undefined, 0),
    windowLayers: c.raw('windowLayers') === undefined ? undefined : c.layers('windowLayers'),
    tiedEmbeddings: c.flag('tiedEmbeddings'),
    attentionBias: c.flag('attentionBias'),
    qkNorm: c.raw('qkNorm') === undefined ? null : c.oneOf('qkNorm', QK_NORMS, ''),
    clipQkv: c.optional('clipQkv'),
    feedForwardBias: c.flag('feedForwardBias'),
    moe: c.raw('moe') === undefined ? null : readMoE(c.part('moe')),
    bosId: c.ids('bosId')[0] ?? null,
    eosIds: c.ids('eosIds'),
  };
  c.finish();
  return checkConfig({ ...config, ...(windowLayers ? { windowLayers } : {}) }, where);
}

const QK_NORMS = { head: 'head', heads: 'heads' } as const;
const ACTIVATION_BY_NAME = Object.fromEntries(
  Object.keys(ACTIVATIONS).map((name) => [name, name as Activation]),
);

class PlainReader extends ConfigReader {
  text(key: string): string {
    const value = this.raw(key);
    if (typeof value !== 'string' || value.length > 1000) throw this.fail(key, 'a text');
    return value;
  }

  flag(key: string): boolean {
    const value = this.raw(key);
    if (typeof value !== 'boolean') throw this.fail(key, 'true or false');
    return value;
  }

  part(key: string): PlainReader {
    const value = this.raw(key);
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      throw this.fail(key, 'an object');
    return new PlainReader(value as Record<string, unknown>, `${this.where}: ${key}`);
  }

  positives(key: string): number[] {
    const value = this.raw(key);
    if (!Array.isArray(value) || !value.every((v) => typeof v === 'number' && v > 0))
      throw this.fail(key, 'a list of positive numbers');
    return value as number[];
  }

  /** Numbers of layers, rising. */
  override layers(key: string): number[] {
    const value = this.raw(key);
    const rising = (v: unknown, i: number, all: unknown[]): boolean =>
      Number.isInteger(v) && (v as number) >= 0 && (i === 0 || (v as number) > (all[i - 1] as number));
    if (!Array.isArray(value) || !value.every(rising)) throw this.fail(key, 'rising numbers of layers');
    return value as number[];
  }

  /** A positive number, or null where the key holds null. */
  optional(key: string): number | null {
    return this.raw(key) === undefined ? null : this.positive(key);
  }
}

function readMoE(c: PlainReader): MoEConfig {
  const gating = c.part('gating');
  const moe: Required<MoEConfig> = {
    nExperts: c.int('nExperts', 'experts'),
    topK: c.int('topK', 'experts'),
    dFf: c.int('dFf', 'width'),
    gating: policyOf(gating),
    layers: c.layers('layers'),
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

function readRopeConfig(c: PlainReader): RopeConfig {
  const rope: Required<RopeConfig> = {
    theta: c.positive('theta'),
    dim: c.int('dim', 'width'),
    interleaved: c.flag('interleaved'),
    scaling: readRopeScaling(c.part('scaling')),
  };
  c.finish();
  return rope;
}

function readRopeScaling(c: PlainReader): RopeScaling {
  const scaling = scalingOf(c, c.text('type'));
  c.finish();
  return scaling;
}

function scalingOf(c: PlainReader, type: string): RopeScaling {
  const original = (): number => c.int('originalMaxSeqLen', 'length');
  switch (type) {
    case 'default':
      return { type };
    case 'linear':
      return { type, factor: c.positive('factor') };
    case 'dynamic':
      return { type, factor: c.positive('factor'), originalMaxSeqLen: original() };
    case 'llama3':
      return {
        type,
        factor: c.positive('factor'),
        lowFreqFactor: c.positive('lowFreqFactor'),
        highFreqFactor: c.positive('highFreqFactor'),
        originalMaxSeqLen: original(),
      };
    case 'yarn':
      return {
        type,
        factor: c.positive('factor'),
        originalMaxSeqLen: original(),
        betaFast: c.positive('betaFast'),
        betaSlow: c.positive('betaSlow'),
        attentionFactor: c.optional('attentionFactor'),
        mscale: c.optional('mscale'),
        mscaleAllDim: c.optional('mscaleAllDim'),
        truncate: c.flag('truncate'),
      };
    case 'factors':
      return { type, factors: c.positives('factors') };
    case 'longrope':
      return {
        type,
        shortFactors: c.positives('shortFactors'),
        longFactors: c.positives('longFactors'),
        originalMaxSeqLen: original(),
        attentionFactor: c.positive('attentionFactor'),
      };
    default:
      throw c.fail('type', 'a known scaling');
  }
}
