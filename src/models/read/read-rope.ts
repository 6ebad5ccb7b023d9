/** Rotary positions as config files describe them. */
import type { RopeConfig, RopeScaling } from '../../nn/rope.js';
import { ConfigReader } from './config-reader.js';

/** What a config leaves out. */
export interface RopeDefaults {
  readonly interleaved?: boolean;
  readonly theta?: number;
  readonly rotaryShare?: number;
}

/** rope_theta and rope_scaling (published files) or rope_parameters (library version 5), in one form. */
export function readRope(
  c: ConfigReader,
  headDim: number,
  maxSeqLen: number,
  { interleaved = false, theta: base = 10000, rotaryShare = 1 }: RopeDefaults = {},
): RopeConfig {
  const parameters = (c.raw('rope_parameters') ?? c.raw('rope_scaling') ?? {}) as Record<string, unknown>;
  c.raw('rope_scaling');
  if (typeof parameters !== 'object' || Array.isArray(parameters)) throw c.fail('rope_scaling', 'an object');
  const r = new ConfigReader(parameters, `${c.where}: rope`);
  const theta = r.source.rope_theta === undefined ? c.positive('rope_theta', base) : r.positive('rope_theta');
  const share =
    r.source.partial_rotary_factor === undefined
      ? c.positive('partial_rotary_factor', rotaryShare)
      : r.positive('partial_rotary_factor');
  const type = (r.raw('rope_type', 'type') ?? 'default') as string;
  const original = r.int(
    'original_max_position_embeddings',
    'length',
    (c.raw('original_max_position_embeddings') as number | undefined) ?? maxSeqLen,
  );
  const scaling = readScaling(r, type, original, maxSeqLen);
  r.finish();
  return { theta, dim: Math.floor(headDim * share), interleaved, scaling };
}

function readScaling(r: ConfigReader, type: string, original: number, maxSeqLen: number): RopeScaling {
  const optional = (key: string): number | null => (r.raw(key) === undefined ? null : r.positive(key));
  switch (type) {
    case 'default':
      return { type };
    case 'linear':
      return { type, factor: r.positive('factor') };
    case 'dynamic':
      return { type, factor: r.positive('factor'), originalMaxSeqLen: original };
    case 'llama3':
      return {
        type,
        factor: r.positive('factor'),
        lowFreqFactor: r.positive('low_freq_factor'),
        highFreqFactor: r.positive('high_freq_factor'),
        originalMaxSeqLen: original,
      };
    case 'yarn': {
      return {
        type,
        factor: r.positive('factor'),
        originalMaxSeqLen: original,
        betaFast: r.positive('beta_fast', 32),
        betaSlow: r.positive('beta_slow', 1),
        attentionFactor: optional('attention_factor'),
        mscale: optional('mscale'),
        mscaleAllDim: optional('mscale_all_dim'),
        truncate: r.bool('truncate', true),
      };
    }
    case 'longrope': {
      const list = (key: string): number[] => {
        const value = r.raw(key);
        if (!Array.isArray(value) || !value.every((v) => typeof v === 'number' && v > 0))
          throw r.fail(key, 'a list of positive numbers');
        return value as number[];
      };
      const factor = r.positive('factor', maxSeqLen / original);
      const attentionFactor = r.positive(
        'attention_factor',
        factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original)),
      );
      return {
        type,
        shortFactors: list('short_factor'),
        longFactors: list('long_factor'),
        originalMaxSeqLen: original,
        attentionFactor,
        shortScale: optional('short_mscale'),
        longScale: optional('long_mscale'),
      };
    }
    default:
      throw r.fail('rope_type', 'default, linear, dynamic, llama3, yarn or longrope');
  }
}
