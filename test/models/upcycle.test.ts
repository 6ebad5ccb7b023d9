/** Dense models turned into sparse ones: same texts, shared bytes, nothing left of what is refused. */
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { SwitchyardError } from '../../src/core/errors.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import type { UpcycleOptions } from '../../src/models/upcycle.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { writeTinyFolder } from '../helpers/tiny-model.js';

const dense = join(temporaryFolder(), 'dense');
beforeAll(() => writeTinyFolder(dense));

const weightBytes = (): number => defaultDevice().addon.memoryUsage().weights;

it('shares the bytes of the dense model, whichever is disposed of first', async () => {
  const before = weightBytes();
  const model = await loadLanguageModel(dense);
  const own = weightBytes() - before;
  const upcycled = await model.upcycle({ nExperts: 16, topK: 2 });
  // Only routers are new: 2 layers of 16 × 64 values.
  expect(weightBytes() - before - own).toBeLessThan(own / 4);
  await upcycled.dispose();
  expect(weightBytes() - before).toBe(own);
  const again = await model.upcycle({ nExperts: 4, topK: 1 });
  await model.dispose();
  expect(weightBytes()).toBeGreaterThan(before);
  await again.dispose();
  expect(weightBytes()).toBe(before);
});

describe('upcycling with other policies', () => {
  it.each([
    ['hash', 1],
    ['sigmoid-top-k', 2],
    ['dense', 4],
  ] as const)('%s writes the text of the dense model: its weights sum to 1', async (gating, topK) => {
    await using model = await loadLanguageModel(dense, { dtype: 'f32' });
    await using sparse = await model.upcycle({ nExperts: 4, topK, gating });
    const options = { maxTokens: 12, ignoreEos: true };
    const [want, got] = await Promise.all([model, sparse].map((m) => m.generate('a b', options).result()));
    expect(got?.tokens).toEqual(want?.tokens);
  });

  it.each(['expert-choice', 'soft-moe', 'soft-merging'] as const)('%s looks ahead', async (gating) => {
    await using model = await loadLanguageModel(dense);
    await expect(model.upcycle({ nExperts: 4, topK: 4, gating })).rejects.toThrow(
      `[decoder] got gating '${gating}', which looks at later tokens`,
    );
  });
});

describe('a refused upcycling', () => {
  it.each<[string, UpcycleOptions]>([
    ['more experts a token than there are', { nExperts: 2, topK: 3 }],
    ['no expert a token', { nExperts: 2, topK: 0 }],
    ['no experts', { nExperts: 0, topK: 1 }],
    ['half an expert', { nExperts: 1.5, topK: 1 }],
    ['more experts than there can be', { nExperts: 2 ** 40, topK: 1 }],
    ['a policy that looks ahead', { nExperts: 4, topK: 1, gating: 'expert-choice' }],
    ['a policy nobody knows', { nExperts: 4, topK: 1, gating: 'none' as 'dense' }],
    ['a seed that is none', { nExperts: 4, topK: 1, seed: Number.NaN }],
  ])('for %s leaves the model as it was', async (_, options) => {
    await using model = await loadLanguageModel(dense);
    const before = weightBytes();
    await expect(model.upcycle(options)).rejects.toBeInstanceOf(SwitchyardError);
    expect(weightBytes()).toBe(before);
  });
});
