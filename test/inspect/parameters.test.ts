import { describe, expect, it } from 'vitest';
import { countParameters, type DecoderSizes, sumParameters } from '../../src/inspect/parameters.js';

const base = {
  attentionBias: false,
  qkNorm: null,
  feedForwardBias: false,
  tiedEmbeddings: false,
  moe: null,
};
const llama = (
  dModel: number,
  nLayers: number,
  [nHeads, nKvHeads, headDim]: [number, number, number],
  dFf: number,
  vocabSize: number,
): DecoderSizes => ({ ...base, dModel, nLayers, nHeads, nKvHeads, headDim, dFf, vocabSize });
const all = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

// The numbers that the models' makers give (or that their files hold).
const published: [string, DecoderSizes, number, number][] = [
  ['Llama 2 7B', llama(4096, 32, [32, 32, 128], 11008, 32000), 6_738_415_616, 6_738_415_616],
  ['TinyLlama 1.1B', llama(2048, 22, [32, 4, 64], 5632, 32000), 1_100_048_384, 1_100_048_384],
  [
    'SmolLM2 135M',
    { ...llama(576, 30, [9, 3, 64], 1536, 49152), tiedEmbeddings: true },
    134_515_008,
    134_515_008,
  ],
  [
    'Mixtral 8x7B',
    {
      ...llama(4096, 32, [32, 8, 128], 14336, 32000),
      moe: { nExperts: 8, topK: 2, dFf: 14336, layers: all(32) },
    },
    46_702_792_704,
    12_879_925_248,
  ],
  [
    'OLMoE 1B-7B',
    {
      ...llama(2048, 16, [16, 16, 128], 1024, 50304),
      qkNorm: 'heads',
      moe: { nExperts: 64, topK: 8, dFf: 1024, layers: all(16) },
    },
    6_919_161_856,
    1_282_017_280,
  ],
  [
    'Qwen3 30B-A3B',
    {
      ...llama(2048, 48, [32, 4, 128], 6144, 151936),
      qkNorm: 'head',
      moe: { nExperts: 128, topK: 8, dFf: 768, layers: all(48) },
    },
    30_532_122_624,
    3_353_032_704,
  ],
  [
    'Qwen3 0.6B',
    { ...llama(1024, 28, [16, 8, 128], 3072, 151936), qkNorm: 'head', tiedEmbeddings: true },
    596_049_920,
    596_049_920,
  ],
];

describe('countParameters', () => {
  it.each(published)('%s', (_, sizes, total, active) => {
    expect(countParameters(sizes)).toMatchObject({ total, active });
  });

  it('counts biases, and dense layers beside sparse ones', () => {
    const sizes: DecoderSizes = {
      ...llama(4, 3, [2, 1, 2], 8, 10),
      attentionBias: true,
      feedForwardBias: true,
      moe: { nExperts: 5, topK: 2, dFf: 3, layers: [1] },
    };
    const { byRole, total, active } = countParameters(sizes);
    expect(byRole).toEqual({
      embedding: 40,
      attention: 3 * (16 + 8 + 8 + 16 + 4 + 2 + 2 + 4),
      norm: 7 * 4,
      feedForward: 2 * (3 * 32 + 8 + 8 + 4),
      router: 20,
      experts: 5 * 36,
      head: 40,
    });
    expect(total - active).toBe(3 * 36);
  });
});

describe('sumParameters', () => {
  it('adds up by role and takes the active share of experts', () => {
    const parts = [
      { role: 'experts', shape: [8, 3, 4] },
      { role: 'experts', shape: [8, 4, 3] },
      { role: 'router', shape: [8, 4] },
      { role: 'norm', shape: [4] },
    ] as const;
    const { total, active, byRole } = sumParameters(parts, 2 / 8);
    expect([total, active, byRole.experts, byRole.head]).toEqual([228, 84, 192, 0]);
  });
});
