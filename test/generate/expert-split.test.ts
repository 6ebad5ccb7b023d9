import { truncateSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../src/core/errors.js';
import { Weight } from '../../src/core/weight.js';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel, loadModel } from '../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../src/generate/handles/load-options.js';
import { samplers } from '../../src/generate/samplers/index.js';
import { drafters } from '../../src/generate/speculate/drafters.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { cudaDevice } from '../helpers/cuda.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { writeTinyFolder } from '../helpers/tiny-model.js';

const device = cudaDevice('experts split between memories');
const fixtures = fixturesFolder;
/** Beside the sum over experts, the last bits of whatever follows. */
const CLOSE = 1e-5;

const INPUTS = { inputIds: [[7, 3, 21, 9, 40, 11, 5, 8, 100, 33, 2, 64]] };
const logitsOf = async (model: LanguageModel): Promise<Float32Array> =>
  (await (await model.forward(INPUTS)).logits.data()) as Float32Array;

function expectClose(got: Float32Array, expected: Float32Array): void {
  expect(got.length).toBe(expected.length);
  const largest = expected.reduce((most, v) => Math.max(most, Math.abs(v)), 1);
  let worst = 0;
  for (const [i, v] of expected.entries()) worst = Math.max(worst, Math.abs(v - (got[i] as number)));
  expect(worst / largest).toBeLessThan(CLOSE);
}

/** MiB of one expert in each sparse layer. */
function mebibytesOfOne({ decoder }: LanguageModel): number {
  let bytes = 0;
  for (const [name, weight] of decoder.parameters)
    if (/experts\.(gate|up|down)\.weight$/.test(name) && weight instanceof Weight)
      bytes += weight.bytes / weight.experts;
  return bytes / 2 ** 20;
}

describe.skipIf(device === null)('experts split between GPU and host', () => {
  const load = (path: string, options: LoadModelOptions = {}): Promise<LanguageModel> =>
    loadLanguageModel(path, { dtype: 'f32', cacheTokens: 1024, ...options, ...(device ? { device } : {}) });

  describe.skipIf(fixtures === undefined).each(['qwen3_moe', 'mixtral', 'deepseek_v3', 'gpt_oss'])(
    '%s',
    (family) => {
      const folder = temporaryFolder();
      const path = join(fixtures ?? '', family);
      let whole: LanguageModel;
      let expected: Float32Array;
      let one: number;

      beforeAll(async () => {
        whole = await load(path);
        expected = await logitsOf(whole);
        one = mebibytesOfOne(whole);
      });
      afterAll(() => whole?.dispose());

      it.each([
        ['all with the host', () => ({ gpu: 0 }), 0],
        ['one a layer on the GPU', () => ({ gpu: 1 }), 1],
        ['some, and a cache', () => ({ gpu: 2, cacheMiB: 2.5 * one }), 4],
        ['all on the GPU', () => ({ gpu: 'auto' as const }), null],
      ])('gives the same logits: %s', async (_, experts, places) => {
        await using model = await load(path, { experts: experts() });
        const splits = [...model.decoder.splits.values()];
        const sparse = whole.config.moe?.layers.length;
        expect(splits.length).toBe(places ? sparse : 0);
        // bytes left over give the first layers one more
        for (const split of splits) expect([places, (places ?? 0) + 1]).toContain(split.places);
        expectClose(await logitsOf(model), expected);
      });

      it.each([0, 2])('saves what it loaded: %s of each layer on the GPU', async (gpu) => {
        await using model = await load(path, { experts: { gpu } });
        const packed = join(folder, `${family}-${gpu}.switchyard`);
        await model.save(packed);
        await using again = await load(packed);
        expect(await logitsOf(again)).toEqual(expected);
      });

      it('gives the same tokens while experts come and go', async () => {
        await using model = await load(path, { experts: { gpu: 0, cacheMiB: 1.01 * one } });
        const options = { maxTokens: 12, ignoreEos: true, sampler: samplers.greedy() };
        // texts of one subject each: few experts are chosen by many of their tokens
        for (const token of [7, 50, 90]) {
          const prompt = Array.from({ length: 60 }, () => token);
          const wanted = await whole.generate(prompt, options).result();
          expect((await model.generate(prompt, options).result()).tokens).toEqual(wanted.tokens);
        }
        expect(model.engine.experts?.replaced).toBeGreaterThan(0);
        expect(whole.engine.experts).toBeNull();
        for (const { slots, held, places } of model.decoder.splits.values()) {
          const [of, at] = [await slots.data(), await held.data()];
          expect([...of].filter((place) => place >= 0).length).toBe(places);
          for (const [place, expert] of [...at].entries()) expect(of[expert as number]).toBe(place);
        }
        expectClose(await logitsOf(model), expected);
      });
    },
  );

  it('splits a layer that predicts further ahead too', async () => {
    const path = fileURLToPath(new URL('../fixtures/prediction/deepseek_v3', import.meta.url));
    await using whole = await load(path);
    await using model = await load(path, { experts: { gpu: 2 } });
    expect([...model.decoder.splits.keys()]).toEqual(['layers.1.experts.', 'layers.2.experts.']);
    const prompt = [5, 9, 17, 30, 8, 41];
    const { tokens } = await whole.generate(prompt, { maxTokens: 12, ignoreEos: true }).result();
    const speculation = drafters.mtp(model, { tokens: 2 });
    const drafted = await model.generate(prompt, { maxTokens: 12, ignoreEos: true, speculation }).result();
    await speculation.dispose();
    expect(drafted.tokens).toEqual(tokens);
    expect(drafted.speculation?.drafted).toBeGreaterThan(0);
  });

  describe('of a model of its own', () => {
    const folder = temporaryFolder();
    const path = join(folder, 'tiny');
    beforeAll(() => writeTinyFolder(path, { nExperts: 5, topK: 2, maxSeqLen: 256 }));

    it('frees all memory, also after a failure', async () => {
      const { addon } = device as NonNullable<typeof device>;
      const held = (): number => addon.memoryUsage().weights;
      const before = held();
      const model = await load(path, { experts: { gpu: 2 } });
      expect(held()).toBeGreaterThan(before);
      await model.dispose();
      expect(held()).toBe(before);
      const aborted = new AbortController();
      const options = { experts: { gpu: 2 }, signal: aborted.signal, onProgress: () => aborted.abort() };
      await expect(load(path, options)).rejects.toMatchObject({ code: 'ERR_ABORTED' });
      expect(held()).toBe(before);
    });

    it('runs other passes while experts come and go', async () => {
      await using whole = await load(path);
      const expected = await logitsOf(whole);
      await using model = await load(path, { experts: { gpu: 1 } });
      const options = { maxTokens: 20, ignoreEos: true, sampler: samplers.greedy() };
      let running = true;
      const texts = model
        .generateAll(
          [7, 50, 90].map((token) => Array.from({ length: 60 }, () => token)),
          options,
        )
        .finally(() => {
          running = false;
        });
      const passes: Float32Array[] = [];
      while (running) passes.push(await logitsOf(model));
      await texts;
      expect(model.engine.experts?.replaced).toBeGreaterThan(0);
      expect(passes.length).toBeGreaterThan(1);
      for (const logits of passes) expectClose(logits, expected);
    });

    it('maps a packed file, and saves what it loaded', async () => {
      const packed = join(folder, 'tiny.switchyard');
      await using whole = await load(path);
      const expected = await logitsOf(whole);
      await using split = await load(path, { experts: { gpu: 2 } });
      await split.save(packed);
      await using again = await load(packed, { experts: { gpu: 1, cacheMiB: 1.01 * mebibytesOfOne(whole) } });
      expect([...again.decoder.splits.values()].map(({ places }) => places)).toEqual([2, 2]);
      expectClose(await logitsOf(again), expected);
    });

    it('says that a packed file was cut under experts of the host', async () => {
      const packed = join(folder, 'cut.switchyard');
      await using split = await load(path, { experts: { gpu: 1 } });
      await split.save(packed);
      await using mapped = await load(packed, { experts: { gpu: 1 } });
      truncateSync(packed, 4096);
      await expect(mapped.forward(INPUTS)).rejects.toMatchObject({ code: 'ERR_IO' });
    });

    it.each([
      [{ gpu: -1 }, 'gpu -1'],
      [{ gpu: 1.5 }, 'gpu 1.5'],
      [{ gpu: 'most' }, 'gpu most'],
      [{ cacheMiB: -1 }, 'cacheMiB -1'],
      [{ cacheMiB: Number.NaN }, 'cacheMiB NaN'],
      [{ cacheMib: 1 }, 'cacheMib'],
      [null, 'experts null'],
      [3, 'experts 3'],
    ])('refuses %j', async (experts, got) => {
      const error = await load(path, { experts } as LoadModelOptions).catch((thrown) => thrown);
      expect(error).toBeInstanceOf(SwitchyardError);
      expect(error).toMatchObject({ code: 'ERR_OPTION' });
      expect(error.message).toContain(got);
    });

    it('refuses a dense model', async () => {
      const dense = join(folder, 'dense');
      await writeTinyFolder(dense);
      await expect(load(dense, { experts: {} })).rejects.toMatchObject({ code: 'ERR_OPTION' });
    });
  });
});

describe('experts split without a GPU', () => {
  const path = join(temporaryFolder(), 'tiny');
  beforeAll(() => writeTinyFolder(path, { nExperts: 4 }));

  it('is refused with a hint', async () => {
    const error = await loadModel(path, { device: 'cpu', experts: { gpu: 1 } }).catch((thrown) => thrown);
    expect(error).toMatchObject({ code: 'ERR_OPTION' });
    expect(error.message).toMatch(/got experts split with cpu .*expected a GPU/);
    expect(error.message + error.hint).toContain('without the option');
  });
});
