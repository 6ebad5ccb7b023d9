/** Rotary positions as plain data. */
import type { RopeConfig, RopeScaling } from '../../nn/rope.js';
import type { PlainReader } from './plain-reader.js';

export function readRopeConfig(c: PlainReader): RopeConfig {
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
        shortScale: c.optional('shortScale'),
        longScale: c.optional('longScale'),
      };
    default:
      throw c.fail('type', 'a known scaling');
  }
}
