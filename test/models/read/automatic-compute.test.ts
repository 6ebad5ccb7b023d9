// How layers compute where the user leaves it open.
import { describe, expect, it } from 'vitest';
import type { NativeWeight } from '../../../src/core/addon.js';
import type { WeightFormat } from '../../../src/core/format.js';
import { Weight } from '../../../src/core/weight.js';
import { automaticCompute } from '../../../src/models/read/load.js';

const modelOf = (...formats: WeightFormat[]) => ({
  parameters: new Map(formats.map((f, i) => [`w${i}`, new Weight({} as NativeWeight, f, 1, 1, 1, 4)])),
});

describe('dtype auto', () => {
  it.each<[WeightFormat[], string, string]>([
    [['f32'], 'f32', 'f32'],
    [['f32', 'bf16'], 'f32', 'bf16'],
    [['f16'], 'f32', 'bf16'],
    [['f8_e4m3'], 'f32', 'bf16'],
    [['bf16', 'q4_0'], 'int8', 'int8'],
    [['int8'], 'int8', 'int8'],
  ])('of %s is %s on a CPU and %s on a GPU', (formats, cpu, cuda) => {
    expect(automaticCompute(modelOf(...formats), { kind: 'cpu' })).toBe(cpu);
    expect(automaticCompute(modelOf(...formats), { kind: 'cuda' })).toBe(cuda);
  });
});
