import { describe, expect, it } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { KV_TYPES } from '../../src/core/format.js';
import { attention, pagedAttention } from '../../src/core/ops/attention.js';
import { slice } from '../../src/core/ops/shape.js';
import { tensor } from '../../src/core/tensor.js';
import { KV_BLOCK } from '../../src/nn/kv-blocks.js';
import { KvCache } from '../../src/nn/kv-cache.js';
import { generator } from '../helpers/random.js';
import { runGraph } from '../helpers/run-graph.js';
import { normal } from '../helpers/tiny-model.js';

const [H, C, CV, N] = [4, 20, 12, 37];
const next = generator(3);
const q = tensor(normal(next, N * H * C, 1), [N, H, C]);
const k = tensor(normal(next, N * C, 1), [N, 1, C]);
const offsets = tensor(Int32Array.of(0, N));
const device = defaultDevice();

describe('a cache whose keys hold the values', () => {
  it.each(KV_TYPES)('of type %s gives what values of their own give', async (type) => {
    const layers = [
      { heads: 1, key: C, value: CV, valuesInKeys: true },
      { heads: 1, key: C, value: CV },
    ];
    const cache = new KvCache(device, { layers, tokens: 3 * KV_BLOCK, type });
    expect(cache.tensors).toHaveLength(3);
    const slots = tensor(Int32Array.from({ length: N }, (_, i) => i + KV_BLOCK));
    const v = slice(k, 2, 0, CV);
    const rest = { lengths: tensor(Int32Array.of(N)), blockTable: tensor(Int32Array.of(1, 2), [1, 2]) };
    const [inKeys, apart] = [0, 1].map((layer) =>
      pagedAttention(q, { ...cache.write(layer, k, v, slots), ...rest }, offsets),
    ) as [typeof q, typeof q];
    const whole = attention(q, k, v, offsets, offsets);
    const [a, b, c] = (await runGraph(device, [inKeys, apart, whole])).map(({ value }) =>
      Array.from(value.data, Number),
    ) as [number[], number[], number[]];
    cache.dispose();
    // Each codes alone: the scale of a key and of its beginning differ.
    if (type !== 'int8') expect(a).toEqual(b);
    if (type === 'f32') expect(a).toEqual(c);
    const far = { f32: 0, f16: 2e-3, bf16: 2e-2, int8: 3e-2 }[type];
    expect(Math.max(...a.map((x, i) => Math.abs(x - (c[i] as number))))).toBeLessThanOrEqual(far);
  });
});
