/** Scalings of rotary embeddings in GGUF files, read and written: keys, and tensors of divisors. */
import type { GgufMetadata } from '../../checkpoint/gguf-metadata.js';
import { mismatch } from '../../core/errors.js';
import { type RopeConfig, type RopeScaling, ropeFrequencies, yarnMagnitude } from '../../nn/rope.js';
import type { DecoderConfig } from '../decoder/config.js';
import { type GgufValues, shortestFloat } from './keys.js';

/** Divisors of rotary frequencies; those of LongRoPE, for short and long sequences. */
const FACTORS = 'rope_freqs.weight';
const SHORT = 'rope_factors_short.weight';
const LONG = 'rope_factors_long.weight';

/** The multiplier of YaRN's logarithm, 0.1·s·ln(factor) + 1, stands in files with the 0.1. */
const LOGARITHM = 0.1;

interface ScalingOptions {
  readonly maxSeqLen: number;
  /** Whether YaRN's ramp ends at whole dimensions in the models of the architecture; files do not say. */
  readonly truncate: boolean;
}

/** What a file says of its scaling; divisors are left empty, as they are tensors. @throws SwitchyardError ERR_UNSUPPORTED */
export function readScaling(
  m: GgufMetadata,
  arch: string,
  has: (tensor: string) => boolean,
  { maxSeqLen, truncate }: ScalingOptions,
): RopeScaling {
  const at = (key: string): string => `${arch}.rope.scaling.${key}`;
  const float = <T extends number | undefined>(key: string, fallback: T): number | T =>
    shortestFloat(m.getFloat(at(key), fallback));
  const factor = float('factor', undefined) || 1;
  const originalMaxSeqLen = m.getInt(at('original_context_length'), maxSeqLen);
  if (has(LONG))
    return {
      type: 'longrope',
      shortFactors: [],
      longFactors: [],
      originalMaxSeqLen,
      attentionFactor: float('attn_factor', 1),
      shortScale: null,
      longScale: null,
    };
  if (has(FACTORS)) return { type: 'factors', factors: [] };
  const type = m.getString(at('type'), factor === 1 ? 'none' : 'linear');
  if (type === 'none') return { type: 'default' };
  if (type === 'linear') return { type, factor };
  if (type !== 'yarn')
    throw mismatch('ERR_UNSUPPORTED', m.path, `${at('type')} '${type}'`, 'none, linear or yarn');
  const logarithmic = float('yarn_log_multiplier', 0);
  const magnitude = logarithmic === 0 ? null : shortestFloat(Math.fround(logarithmic / LOGARITHM));
  // Some files say the factor itself, some what the usual one is multiplied by.
  const attentionFactor = float('yarn_attn_factor', undefined);
  const multiplier = float('attn_factor', undefined);
  return {
    type,
    factor,
    originalMaxSeqLen,
    betaFast: float('yarn_beta_fast', 32),
    betaSlow: float('yarn_beta_slow', 1),
    attentionFactor:
      attentionFactor ?? (multiplier === undefined ? null : multiplier * yarnMagnitude(factor)),
    // files keep one magnitude, for models whose two are equal
    mscale: magnitude,
    mscaleAllDim: magnitude,
    truncate,
  };
}

/** The scaling with the divisors that the file has for it. */
export async function withDivisors(
  { dim, scaling }: RopeConfig,
  values: (tensor: string, size: number) => Promise<Float32Array>,
): Promise<RopeScaling> {
  const read = async (tensor: string) => Array.from(await values(tensor, dim / 2));
  if (scaling.type === 'factors') return { ...scaling, factors: await read(FACTORS) };
  if (scaling.type === 'longrope')
    return { ...scaling, shortFactors: await read(SHORT), longFactors: await read(LONG) };
  return scaling;
}

/** Keys of a scaling. @throws SwitchyardError ERR_UNSUPPORTED for one that files have no words for */
export function scalingKeys({ scaling }: RopeConfig, arch: string): GgufValues {
  const values: GgufValues = new Map();
  const put = (key: string, value: string | number | { f32: number }) =>
    values.set(`${arch}.rope.scaling.${key}`, value);
  switch (scaling.type) {
    case 'default':
    // The divisors are a tensor.
    case 'llama3':
    case 'factors':
      break;
    case 'linear':
      put('type', 'linear');
      put('factor', { f32: scaling.factor });
      break;
    case 'yarn':
      put('type', 'yarn');
      put('factor', { f32: scaling.factor });
      put('original_context_length', scaling.originalMaxSeqLen);
      put('yarn_beta_fast', { f32: scaling.betaFast });
      put('yarn_beta_slow', { f32: scaling.betaSlow });
      if (scaling.mscaleAllDim) put('yarn_log_multiplier', { f32: LOGARITHM * scaling.mscaleAllDim });
      if (scaling.attentionFactor !== null) {
        put('yarn_attn_factor', { f32: scaling.attentionFactor });
        put('attn_factor', { f32: scaling.attentionFactor / yarnMagnitude(scaling.factor) });
      }
      break;
    case 'longrope':
      put('type', 'longrope');
      put('original_context_length', scaling.originalMaxSeqLen);
      put('attn_factor', { f32: oneFactor(scaling) });
      break;
    default:
      throw mismatch('ERR_UNSUPPORTED', 'save', `rotary scaling '${scaling.type}'`, 'one that GGUF has');
  }
  return values;
}

/** The tensors of divisors that a model's file has. */
export function scalingTensors({ rope, maxSeqLen }: DecoderConfig): Map<string, Float32Array> {
  const tensors = new Map<string, Float32Array>();
  const scaling = rope?.scaling;
  if (scaling?.type === 'factors') tensors.set(FACTORS, Float32Array.from(scaling.factors));
  if (scaling?.type === 'llama3') {
    const stretched = ropeFrequencies(rope as RopeConfig, maxSeqLen).frequencies;
    const plain = ropeFrequencies({ ...(rope as RopeConfig), scaling: { type: 'default' } }, maxSeqLen);
    tensors.set(
      FACTORS,
      plain.frequencies.map((f, i) => f / (stretched[i] as number)),
    );
  }
  if (scaling?.type === 'longrope') {
    tensors.set(LONG, Float32Array.from(scaling.longFactors));
    tensors.set(SHORT, Float32Array.from(scaling.shortFactors));
  }
  return tensors;
}

/** A scaling as files have words for it: divisors without how they came about, one factor for short and long sequences. */
export function sayable(scaling: RopeScaling, tensors: ReadonlyMap<string, Float32Array>): RopeScaling {
  const list = (tensor: string): number[] => [...(tensors.get(tensor) ?? [])];
  if (tensors.has(FACTORS)) return { type: 'factors', factors: list(FACTORS) };
  if (scaling.type !== 'longrope') return scaling;
  const { shortScale, longScale } = scaling;
  const divisors = { shortFactors: list(SHORT), longFactors: list(LONG) };
  if (shortScale !== longScale) return { ...scaling, ...divisors };
  return { ...scaling, ...divisors, attentionFactor: oneFactor(scaling), shortScale: null, longScale: null };
}

/** What LongRoPE multiplies cosines and sines with, for models whose texts of any length have the same. */
const oneFactor = ({
  shortScale,
  longScale,
  attentionFactor,
}: Extract<RopeScaling, { type: 'longrope' }>): number =>
  shortScale !== null && shortScale === longScale ? shortScale : attentionFactor;
