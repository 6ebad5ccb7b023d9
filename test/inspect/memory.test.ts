import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { storageFormats } from '../../src/checkpoint/tensor-file.js';
import { Device } from '../../src/core/device.js';
import { isStoredFormat, WEIGHT_FORMATS } from '../../src/core/format.js';
import { cacheBytesPerToken, estimateMemory, packedBytes } from '../../src/inspect/memory.js';

describe('packedBytes', () => {
  const device = new Device({ threads: 1 });

  it.each(WEIGHT_FORMATS)('%s: what the native side really takes', async (format) => {
    const stored = isStoredFormat(format) ? format : 'q8_0';
    const { valuesPerBlock, bytesPerBlock } = storageFormats[stored];
    const size = fc.record({
      experts: fc.integer({ min: 1, max: 3 }),
      rows: fc.integer({ min: 1, max: 50 }),
      blocks: fc.integer({ min: 1, max: valuesPerBlock === 1 ? 70 : 9 }),
    });
    const property = fc.asyncProperty(size, async ({ experts, rows, blocks }) => {
      const columns = blocks * valuesPerBlock;
      const data = new Uint8Array(experts * rows * blocks * bytesPerBlock);
      const parts = [{ data, offset: 0, bytes: data.length }];
      const source = { format: stored, as: format, experts, rows, columns, parts };
      const weight = await device.addon.packWeight(device.native, source);
      expect(packedBytes({ format, experts, rows, columns })).toBe(device.addon.weightInfo(weight).bytes);
      device.addon.disposeWeight(weight);
    });
    await fc.assert(property, { seed: 3, numRuns: 20 });
  });
});

describe('estimateMemory', () => {
  const cache = Array.from({ length: 2 }, () => ({ heads: 3, key: 4, value: 4 }));

  it('counts keys and values in float32', () => {
    expect(cacheBytesPerToken(cache, 'f32')).toBe(2 * 2 * 3 * 4 * 4);
    expect(cacheBytesPerToken(cache, 'f16')).toBe(2 * 2 * 3 * 4 * 2);
    expect(cacheBytesPerToken(cache, 'bf16')).toBe(2 * 2 * 3 * 4 * 2);
    expect(cacheBytesPerToken(cache, 'int8')).toBe(2 * 2 * 3 * (4 + 4));
    const layers = [
      { heads: 1, key: 20, value: 16 },
      { heads: 2, key: 8, value: 4 },
    ];
    expect(cacheBytesPerToken(layers, 'f16')).toBe(2 * (36 + 2 * 12));
    expect(cacheBytesPerToken(layers, 'int8')).toBe(24 + 20 + 2 * (12 + 8));
    // DeepSeek-V3: 61 layers with a latent of 512 and a rotary key of 64
    const latent = { heads: 1, key: 576, value: 512, valuesInKeys: true };
    expect(cacheBytesPerToken(Array(61).fill(latent), 'bf16')).toBe(61 * 576 * 2);
  });

  it('adds weights and whole blocks of the cache', () => {
    const matrices = [{ format: 'f32', rows: 16, columns: 10 } as const];
    const memory = estimateMemory(matrices, cache, 'f32', 33, 32);
    expect(memory).toEqual({ weights: 640, cache: 64 * 192, total: 640 + 64 * 192 });
  });
});
