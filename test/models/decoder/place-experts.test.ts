import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type LayerSize, placesOf } from '../../../src/models/decoder/place-experts.js';

const layers: LayerSize[] = [
  { bytes: 10, experts: 4 },
  { bytes: 20, experts: 4 },
];

describe('places of experts on a GPU', () => {
  it.each([
    ['none', { gpu: 0, cacheBytes: null, free: 1000 }, [0, 0], [0, 0]],
    ['a number a layer', { gpu: 3, cacheBytes: null, free: 0 }, [3, 3], [3, 3]],
    ['more than there are', { gpu: 9, cacheBytes: 100, free: 0 }, [4, 4], [4, 4]],
    ['a cache beside a number', { gpu: 1, cacheBytes: 45, free: 0 }, [3, 2], [1, 1]],
    ['a cache alone', { gpu: 0, cacheBytes: 30, free: 0 }, [1, 1], [0, 0]],
    ['what fits', { gpu: 'auto', cacheBytes: null, free: 75 }, [3, 2], [0, 0]],
    ['what fits, of which a part is a cache', { gpu: 'auto', cacheBytes: 30, free: 75 }, [3, 2], [2, 1]],
    ['nothing fits', { gpu: 'auto', cacheBytes: null, free: -5 }, [0, 0], [0, 0]],
    ['all fit', { gpu: 'auto', cacheBytes: null, free: 1e12 }, [4, 4], [0, 0]],
  ] as const)('%s', (_, options, places, fixed) => {
    const found = placesOf(layers, options);
    expect(found.map((layer) => layer.places)).toEqual(places);
    expect(found.map((layer) => layer.fixed)).toEqual(fixed);
  });

  it('takes no more than is free, and leaves no room for another expert', () => {
    const layer = fc.record({
      bytes: fc.integer({ min: 1, max: 50 }),
      experts: fc.integer({ min: 1, max: 9 }),
    });
    fc.assert(
      fc.property(
        fc.array(layer, { minLength: 1, maxLength: 5 }),
        fc.integer({ min: 0, max: 2000 }),
        (sizes, free) => {
          const places = placesOf(sizes, { gpu: 'auto', cacheBytes: null, free }).map(
            (found) => found.places,
          );
          const left = sizes.reduce((sum, { bytes }, i) => sum - bytes * (places[i] as number), free);
          expect(left).toBeGreaterThanOrEqual(0);
          for (const [i, { bytes, experts }] of sizes.entries())
            if ((places[i] as number) < experts) expect(bytes).toBeGreaterThan(left);
        },
      ),
      { seed: 8 },
    );
  });
});
