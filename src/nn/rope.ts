/** Rotary embedding: inverse frequencies under every published scaling, and the tables of cos and sin. */
import { SwitchyardError } from '../core/errors.js';
import { ropeTable } from '../core/ops/attention.js';
import { type Tensor, tensor } from '../core/tensor.js';

/** How frequencies are stretched beyond the length a model was trained on. */
export type RopeScaling =
  | { readonly type: 'default' }
  /** All positions divided by `factor` (Chen et al. 2023). */
  | { readonly type: 'linear'; readonly factor: number }
  /** The base grows with the length (NTK-aware, dynamic); fixed here at `maxSeqLen`. */
  | { readonly type: 'dynamic'; readonly factor: number; readonly originalMaxSeqLen: number }
  /** YaRN (Peng et al. 2023): a ramp between stretched and original frequencies. */
  | {
      readonly type: 'yarn';
      readonly factor: number;
      readonly originalMaxSeqLen: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      readonly attentionFactor: number | null;
      readonly mscale: number | null;
      readonly mscaleAllDim: number | null;
      readonly truncate: boolean;
    }
  /** Llama 3.1's ramp over wavelengths. */
  | {
      readonly type: 'llama3';
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalMaxSeqLen: number;
    }
  /** One divisor per frequency, as GGUF files store them. */
  | { readonly type: 'factors'; readonly factors: readonly number[] }
  /** LongRoPE (Ding et al. 2024): divisors for short and long sequences; the long ones apply beyond the original length. */
  | {
      readonly type: 'longrope';
      readonly shortFactors: readonly number[];
      readonly longFactors: readonly number[];
      readonly originalMaxSeqLen: number;
      readonly attentionFactor: number;
      /** Factors on cos and sin instead of attentionFactor, for short and for long sequences (Phi-3.5-MoE). */
      readonly shortScale: number | null;
      readonly longScale: number | null;
    };

export interface RopeConfig {
  readonly theta: number;
  /** Turned sizes of a head, even; the rest passes. */
  readonly dim: number;
  /** Pairs are neighbours (2i, 2i+1) instead of halves (i, i + dim/2). */
  readonly interleaved: boolean;
  readonly scaling: RopeScaling;
}

/** YaRN's magnitude correction, 0.1·s·ln(factor) + 1 (section 3.4). */
export const yarnMagnitude = (factor: number, s = 1): number =>
  factor <= 1 ? 1 : 0.1 * s * Math.log(factor) + 1;

/**
 * Inverse frequencies [dim/2] and the factor on cos and sin.
 * @param length longest sequence that will be seen; only dynamic and LongRoPE scaling depend on it
 */
export function ropeFrequencies(
  config: RopeConfig,
  length: number,
): { frequencies: Float32Array; scale: number } {
  const { dim, theta, scaling } = config;
  if (dim % 2 !== 0 || dim <= 0 || !(theta > 0)) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[rope] got dim ${dim} and theta ${theta}, expected an even dim and a positive theta`,
    );
  }
  const plain = base(dim, theta);
  switch (scaling.type) {
    case 'default':
      return { frequencies: plain, scale: 1 };
    case 'linear':
      return { frequencies: plain.map((f) => f / scaling.factor), scale: 1 };
    case 'dynamic': {
      const n = Math.max(length, scaling.originalMaxSeqLen);
      const stretch = (scaling.factor * n) / scaling.originalMaxSeqLen - (scaling.factor - 1);
      return { frequencies: base(dim, theta * stretch ** (dim / (dim - 2))), scale: 1 };
    }
    case 'llama3':
      return { frequencies: plain.map((f) => llama3(f, scaling)), scale: 1 };
    case 'factors':
      return { frequencies: divided(plain, scaling.factors), scale: 1 };
    case 'longrope': {
      const long = length > scaling.originalMaxSeqLen;
      return {
        frequencies: divided(plain, long ? scaling.longFactors : scaling.shortFactors),
        scale: (long ? scaling.longScale : scaling.shortScale) ?? scaling.attentionFactor,
      };
    }
    case 'yarn':
      return yarn(plain, config, scaling);
  }
}

const base = (dim: number, theta: number): Float32Array =>
  Float32Array.from({ length: dim / 2 }, (_, i) => 1 / Math.fround(theta ** Math.fround((2 * i) / dim)));

function divided(frequencies: Float32Array, factors: readonly number[]): Float32Array {
  if (factors.length !== frequencies.length) {
    throw new SwitchyardError(
      'ERR_FORMAT',
      `[rope] got ${factors.length} factors, expected ${frequencies.length}`,
    );
  }
  return frequencies.map((f, i) => f / (factors[i] as number));
}

function llama3(f: number, s: RopeScaling & { type: 'llama3' }): number {
  const wavelength = (2 * Math.PI) / f;
  if (wavelength < s.originalMaxSeqLen / s.highFreqFactor) return f;
  if (wavelength > s.originalMaxSeqLen / s.lowFreqFactor) return f / s.factor;
  const smooth = (s.originalMaxSeqLen / wavelength - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return ((1 - smooth) * f) / s.factor + smooth * f;
}

function yarn(
  plain: Float32Array,
  { dim, theta }: RopeConfig,
  s: RopeScaling & { type: 'yarn' },
): { frequencies: Float32Array; scale: number } {
  // the dimension whose wavelength makes `turns` turns over the original length
  const dimensionOf = (turns: number): number =>
    (dim * Math.log(s.originalMaxSeqLen / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = dimensionOf(s.betaFast);
  let high = dimensionOf(s.betaSlow);
  if (s.truncate) {
    low = Math.floor(low);
    high = Math.ceil(high);
  }
  low = Math.max(low, 0);
  high = Math.min(high, dim - 1);
  if (low === high) high += 0.001; // no division by zero
  const frequencies = plain.map((f, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    return (f / s.factor) * ramp + f * (1 - ramp);
  });
  const both = s.mscale && s.mscaleAllDim;
  const magnitude = both
    ? yarnMagnitude(s.factor, s.mscale as number) / yarnMagnitude(s.factor, s.mscaleAllDim as number)
    : yarnMagnitude(s.factor);
  return { frequencies, scale: s.attentionFactor ?? magnitude };
}

/** The tables of a step: cos and sin [N, dim/2] of positions i32 [N], shared by all layers. */
export class RotaryEmbedding {
  readonly #frequencies: Tensor;
  readonly #scale: number;

  constructor(
    readonly config: RopeConfig,
    length: number,
  ) {
    const { frequencies, scale } = ropeFrequencies(config, length);
    this.#frequencies = tensor(frequencies);
    this.#scale = scale;
  }

  table(positions: Tensor): { cos: Tensor; sin: Tensor } {
    return ropeTable(positions, this.#frequencies, this.#scale);
  }
}
