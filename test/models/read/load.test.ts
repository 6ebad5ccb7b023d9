import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { defaultDevice } from '../../../src/core/device.js';
import { SwitchyardError } from '../../../src/core/errors.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import type { LoadProgress } from '../../../src/models/read/tensor-source.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import {
  type TinyOptions,
  tinyConfig,
  tinyGguf,
  tinyShapes,
  tinyTensors,
  writeTinyFolder,
} from '../../helpers/tiny-model.js';

const folder = temporaryFolder();
const dense = join(folder, 'dense');
const sparse = join(folder, 'sparse.gguf');
beforeAll(async () => {
  await writeTinyFolder(dense);
  writeFileSync(sparse, tinyGguf('q4_0', { nExperts: 4 }));
});

const weightBytes = (): number => defaultDevice().addon.memoryUsage().weights;

describe('progress', () => {
  it.each([dense, sparse])('rises to the total: %s', async (path) => {
    const seen: LoadProgress[] = [];
    const model = await loadLanguageModel(path, { onProgress: (p) => seen.push(p) });
    await model.dispose();
    const loaded = seen.map((p) => p.loaded);
    expect(loaded).toEqual([...new Set(loaded)].sort((a, b) => a - b));
    expect(loaded.at(-1)).toBe(seen[0]?.total);
    expect(new Set(seen.map((p) => p.total)).size).toBe(1);
    expect(seen.every((p) => p.tensor !== '')).toBe(true);
  });

  it('rises to the total where tensors are passed over', async () => {
    const path = join(folder, 'tied');
    const inverse = {
      name: 'model.layers.0.self_attn.rotary_emb.inv_freq',
      shape: [8],
      data: new Float32Array(8),
    };
    await writeTinyFolder(
      path,
      {},
      {
        config: { ...tinyConfig(), tie_word_embeddings: true },
        tensors: [...tinyTensors(), inverse],
      },
    );
    const seen: LoadProgress[] = [];
    const model = await loadLanguageModel(path, { onProgress: (p) => seen.push(p) });
    expect(seen.at(-1)?.loaded).toBe(seen[0]?.total);
    expect(model.decoder.parts.head.weight).toBe(model.decoder.parts.embedding.weight);
    await model.dispose();
  });

  it('an error in the callback ends the loading', async () => {
    const before = weightBytes();
    const load = loadLanguageModel(dense, {
      onProgress: () => {
        throw new RangeError('enough');
      },
    });
    await expect(load).rejects.toThrow(RangeError);
    expect(weightBytes()).toBe(before);
  });
});

describe('a signal', () => {
  it('given before or during loading ends it, and frees what was packed', async () => {
    const before = weightBytes();
    for (const after of [0, 1, 5]) {
      const abort = new AbortController();
      let steps = 0;
      if (after === 0) abort.abort(new Error('enough'));
      const load = loadLanguageModel(dense, {
        signal: abort.signal,
        onProgress: () => {
          if (++steps === after) abort.abort(new Error('enough'));
        },
      });
      const error = await load.catch((e: unknown) => e);
      expect(error).toBeInstanceOf(SwitchyardError);
      expect(error).toMatchObject({ code: 'ERR_ABORTED', cause: { message: 'enough' } });
      expect(steps).toBe(after);
      expect(weightBytes()).toBe(before);
    }
  });
});

it('a failed load frees what was packed', async () => {
  const path = join(folder, 'short');
  await writeTinyFolder(path, {}, { tensors: tinyTensors().slice(0, -1) });
  const before = weightBytes();
  await expect(loadLanguageModel(path)).rejects.toThrow(/lm_head/);
  expect(weightBytes()).toBe(before);
});

it('dispose gives all weights back', async () => {
  const before = weightBytes();
  const model = await loadLanguageModel(dense);
  expect(weightBytes()).toBeGreaterThan(before);
  await model.dispose();
  expect(weightBytes()).toBe(before);
});

it.skipIf(process.platform !== 'linux')(
  'peak memory stays below 1.15 × the packed size',
  { timeout: 180_000 },
  async () => {
    const path = join(folder, 'large');
    const options: TinyOptions = { dModel: 1024, nLayers: 6, nHeads: 16, nKvHeads: 16, dFf: 2816 };
    const next = generator(1);
    const piece = new Float32Array(1 << 16).map(() => 0.05 * (next() - 0.5));
    const tensors = tinyShapes(options).map(({ name, shape }) => ({
      name,
      shape,
      format: 'f32' as const,
      data: () => {
        const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
        for (let at = 0; at < data.length; at += piece.length)
          data.set(piece.subarray(0, data.length - at), at);
        return data;
      },
    }));
    await writeTinyFolder(path, options, { tensors });
    const script = fileURLToPath(new URL('../../helpers/peak-memory.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script, path]);
    const { packed, peak } = JSON.parse(stdout) as { packed: number; peak: number };
    expect(packed).toBeGreaterThan(280e6);
    expect(peak / packed).toBeLessThanOrEqual(1.15);
  },
);
