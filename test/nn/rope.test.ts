import { describe, expect, it } from 'vitest';
import { type RopeScaling, ropeFrequencies } from '../../src/nn/rope.js';

describe('LongRoPE', () => {
  const scaling: RopeScaling = {
    type: 'longrope',
    shortFactors: [1, 2],
    longFactors: [4, 8],
    originalMaxSeqLen: 16,
    attentionFactor: 1.5,
    shortScale: null,
    longScale: null,
  };
  const plain = [1, 0.01]; // theta 10000, 4 turned sizes

  it.each([
    ['short, no factors of its own', 16, {}, [1, 2], 1.5],
    ['long, no factors of its own', 17, {}, [4, 8], 1.5],
    ['short', 16, { shortScale: 1.1, longScale: 1.25 }, [1, 2], 1.1],
    ['long', 17, { shortScale: 1.1, longScale: 1.25 }, [4, 8], 1.25],
  ])('%s', (_, length, scales, divisors, scale) => {
    const rope = { theta: 10000, dim: 4, interleaved: false, scaling: { ...scaling, ...scales } };
    const found = ropeFrequencies(rope, length);
    expect(found.scale).toBe(scale);
    for (const [i, f] of [...found.frequencies].entries())
      expect(f).toBeCloseTo((plain[i] as number) / (divisors[i] as number), 7);
  });
});
