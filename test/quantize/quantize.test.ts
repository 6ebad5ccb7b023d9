/** Models in other formats: which matrix gets which, what it costs, and models without some of their experts. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Weight } from '../../src/core/weight.js';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { PartList } from '../../src/models/parts.js';
import { chooseDropped, countToDrop, expertLoads } from '../../src/quantize/drop-experts.js';
import { compareModels, perplexity, quantizeModel, TARGET_FORMATS } from '../../src/quantize/index.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { type TinyOptions, tinyTensors, writeTinyFolder } from '../helpers/tiny-model.js';

const folder = temporaryFolder();
const SPARSE: TinyOptions = { nExperts: 6, topK: 2 };
const TEXT = Array.from({ length: 150 }, (_, i) => (i * i * 7 + 3 * i) % 256);
let sparse: LanguageModel;
beforeAll(async () => {
  sparse = await loadLanguageModel(await writeTinyFolder(join(folder, 'sparse'), SPARSE), { dtype: 'f32' });
});
afterAll(() => sparse.dispose());
let files = 0;
const newFile = (): string => join(folder, `${files++}.switchyard`);

/** log softmax of a row in double precision. */
function logProbabilities(row: Float32Array): Float64Array {
  const most = Math.max(...row);
  const total = row.reduce((sum, v) => sum + Math.exp(v - most), 0);
  return Float64Array.from(row, (v) => v - most - Math.log(total));
}

async function rowsOf(model: LanguageModel, ids: readonly number[]): Promise<Float64Array[]> {
  const { logits } = await model.forward({ inputIds: [ids] });
  const values = (await logits.data()) as Float32Array;
  const v = model.config.vocabSize;
  return ids.map((_, t) => logProbabilities(values.subarray(t * v, (t + 1) * v)));
}

/** Windows by definition. */
async function byDefinition(model: LanguageModel, window: number) {
  const rows: Float64Array[] = [];
  const losses: number[] = [];
  for (let at = 0; at < TEXT.length - 1; at += window) {
    const part = TEXT.slice(at, at + window);
    const all = await rowsOf(model, part);
    for (let t = 0; t + 1 < part.length; t++) {
      rows.push(all[t] as Float64Array);
      losses.push(-((all[t] as Float64Array)[part[t + 1] as number] as number));
    }
  }
  return { rows, loss: losses.reduce((a, b) => a + b, 0) / losses.length, tokens: losses.length };
}

describe('perplexity', () => {
  it.each([2, 3, 64, 65, 149, 150, 512])('in windows of %i is what the definition gives', async (window) => {
    const want = await byDefinition(sparse, window);
    const got = await perplexity(sparse, TEXT, { window });
    expect(got.tokens).toBe(want.tokens);
    expect(got.loss).toBeCloseTo(want.loss, 5);
    expect(got.perplexity).toBeCloseTo(Math.exp(want.loss), 2);
    // with a cache in f32, what comparing two models says
    const { reference } = await compareModels(sparse, sparse, TEXT, { window });
    expect(got.loss).toBeCloseTo(reference.loss, 6);
  });

  it('takes text, and refuses too little of it', async () => {
    expect((await perplexity(sparse, 'hello')).tokens).toBe(sparse.tokenizer.encode('hello').length - 1);
    await expect(perplexity(sparse, [1])).rejects.toMatchObject({ code: 'ERR_OPTION' });
    await expect(perplexity(sparse, [1, 9999])).rejects.toMatchObject({ code: 'ERR_OPTION' });
    await expect(perplexity(sparse, TEXT, { window: 1 })).rejects.toThrow(/window 1/);
    const aborted = { code: 'ERR_ABORTED' };
    await expect(perplexity(sparse, TEXT, { signal: AbortSignal.abort() })).rejects.toMatchObject(aborted);
    const stop = new AbortController();
    const run = perplexity(sparse, TEXT, {
      window: 8,
      signal: stop.signal,
      onProgress: ({ tokens }) => tokens > 30 && stop.abort(),
    });
    await expect(run).rejects.toMatchObject(aborted);
    expect(sparse.engine.cache.freeBlocks).toBe(sparse.engine.cache.blocks);
  });

  it('of a model beside itself has no divergence', async () => {
    const { increase, kl, sameTop, reference, model } = await compareModels(sparse, sparse, TEXT);
    expect([increase, kl.mean, kl.max, sameTop]).toEqual([0, 0, 0, 1]);
    expect(model).toEqual(reference);
  });

  it('beside another model has the divergence of the definition', async () => {
    const options = { ...SPARSE, seed: 2 };
    const path = await writeTinyFolder(join(folder, 'other'), options);
    await using other = await loadLanguageModel(path, { dtype: 'f32' });
    const seen: number[] = [];
    const got = await compareModels(sparse, other, TEXT, {
      window: 70,
      onProgress: (p) => seen.push(p.tokens),
    });
    const [p, q] = [await byDefinition(sparse, 70), await byDefinition(other, 70)];
    const divergences = p.rows.map((row, t) =>
      row.reduce((sum, lp, i) => sum + Math.exp(lp) * (lp - ((q.rows[t] as Float64Array)[i] as number)), 0),
    );
    const same = p.rows.filter((row, t) => {
      const other = q.rows[t] as Float64Array;
      return row.indexOf(Math.max(...row)) === other.indexOf(Math.max(...other));
    });
    expect(got.kl.mean).toBeCloseTo(divergences.reduce((a, b) => a + b, 0) / divergences.length, 4);
    expect(got.kl.max).toBeCloseTo(Math.max(...divergences), 3);
    expect(got.kl.p99).toBeLessThanOrEqual(got.kl.max);
    expect(got.sameTop).toBeCloseTo(same.length / p.rows.length, 6);
    expect(got.increase).toBeCloseTo(Math.exp(q.loss - p.loss) - 1, 4);
    expect(seen.at(-1)).toBe(got.model.tokens);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });
});

const weights = (model: LanguageModel): Map<string, Weight> =>
  new Map(new PartList(model.decoder).matrices.map(({ name, matrix }) => [name, matrix as Weight]));

describe('quantising', () => {
  it('gives each role its format, and reports bytes and errors', async () => {
    const to = newFile();
    const report = await quantizeModel(sparse, to, {
      formats: { default: 'int8', experts: 'q4_0', router: 'f32', head: 'q8_0', attention: 'bf16' },
      text: TEXT,
    });
    await using model = await loadLanguageModel(to);
    expect(
      [...weights(model)]
        .map(([name, { format }]) => `${name} ${format}`)
        .filter((n) => !/layers\.1/.test(n)),
    ).toEqual([
      'embedding.weight int8',
      'layers.0.attention.q.weight bf16',
      'layers.0.attention.k.weight bf16',
      'layers.0.attention.v.weight bf16',
      'layers.0.attention.o.weight bf16',
      'layers.0.router.weight f32',
      'layers.0.experts.gate.weight q4_0',
      'layers.0.experts.up.weight q4_0',
      'layers.0.experts.down.weight q4_0',
      'head.weight q8_0',
    ]);
    const errors = report.tensors.map(({ error }) => error);
    expect(errors).toEqual([...errors].sort((a, b) => b - a));
    expect(errors[0]).toBeGreaterThan(0.05);
    expect(report.tensors.find((t) => t.role === 'router')?.error).toBe(0);
    const sum = [...weights(model).values()].reduce((n, w) => n + w.bytes, 0);
    expect(report.bytesAfter).toBe(sum);
    expect(report.bytesBefore).toBe([...weights(sparse).values()].reduce((n, w) => n + w.bytes, 0));
    expect(report.fileBytes).toBe(statSync(to).size);
    expect(report.quality?.compute).toEqual(['f32', 'int8']);
    expect(report.quality?.kl.mean).toBeGreaterThan(0);
    expect(report.quality).toMatchObject(await compareModels(sparse, model, TEXT));
  });

  it.each(TARGET_FORMATS)('to %s gives a model that runs, near the source', async (format) => {
    const to = newFile();
    const { quality, dropped, tensors } = await quantizeModel(sparse, to, {
      formats: { default: format },
      text: TEXT,
      dtype: 'f32',
    });
    expect(dropped).toBeNull();
    // Rounding to 4 bits, to 8, to 8 bits of significand, to 11.
    const most = /^(int|q)4/.test(format)
      ? 0.12
      : /^(int|q)8/.test(format)
        ? 0.02
        : format === 'bf16'
          ? 3e-3
          : 4e-4;
    const exact = format === 'keep' || format === 'f32';
    expect(tensors[0]?.error).toBeLessThanOrEqual(exact ? 0 : most);
    expect(tensors[0]?.error).toBeGreaterThanOrEqual(exact ? 0 : most / 8);
    expect(quality?.kl.mean).toBeLessThanOrEqual(exact ? 0 : 10 * most);
  });

  it('keeps everything unless told, without a text too', async () => {
    const report = await quantizeModel(sparse, newFile());
    expect(report.quality).toBeNull();
    expect(report.bytesAfter).toBe(report.bytesBefore);
    expect(report.tensors.every((t) => t.error === 0 && t.from === t.to)).toBe(true);
  });

  it('of columns that fill no blocks takes f16, and says so', async () => {
    const path = await writeTinyFolder(join(folder, 'odd'), { ...SPARSE, dFf: 40 });
    await using odd = await loadLanguageModel(path);
    const report = await quantizeModel(odd, newFile(), { formats: { default: 'int8' } });
    for (const { name, to, note } of report.tensors) {
      const expected = name.endsWith('down.weight') ? 'f16' : name.includes('router') ? 'f32' : 'int8';
      expect(to, name).toBe(expected);
      expect(note === null, name).toBe(expected !== 'f16');
    }
    const down = report.tensors.find((t) => t.note);
    expect(down?.note).toBe('40 columns are no multiple of 32: f16 instead of int8');
  });

  it('of an upcycled model stores equal experts once', async () => {
    const path = await writeTinyFolder(join(folder, 'dense'));
    await using dense = await loadLanguageModel(path, { dtype: 'f32' });
    await using upcycled = await dense.upcycle({ nExperts: 8, topK: 2 });
    const to = newFile();
    const report = await quantizeModel(upcycled, to, {
      formats: { default: 'q8_0' },
      text: TEXT,
      dropExperts: 2,
    });
    await using model = await loadLanguageModel(to);
    const gate = weights(model).get('layers.0.experts.gate.weight');
    expect(String(gate)).toBe('Weight(q8_0 6 × [96, 64])');
    expect(gate?.bytes).toBeLessThan(96 * 64 * 1.2);
    expect(report.quality?.kl.mean).toBeLessThan(0.01); // any of equal experts may go
  });

  it('is refused with a reason', async () => {
    const to = newFile();
    const quantize = (options: object): Promise<unknown> => quantizeModel(sparse, to, options as never);
    await expect(quantize({ formats: { default: 'q9' } })).rejects.toMatchObject({ code: 'ERR_OPTION' });
    await expect(quantize({ formats: { expert: 'int8' } })).rejects.toThrow(/experts/);
    await expect(quantize({ format: {} })).rejects.toThrow(/formats/);
    await expect(quantize({ text: [1] })).rejects.toMatchObject({ code: 'ERR_OPTION' });
    const aborted = quantize({ formats: { default: 'int8' }, signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    const tensors = tinyTensors(SPARSE);
    (tensors.find((t) => t.name.includes('lm_head'))?.data as Float32Array)[5] = Number.POSITIVE_INFINITY;
    const path = await writeTinyFolder(join(folder, 'infinite'), SPARSE, { tensors });
    await using model = await loadLanguageModel(path);
    await expect(quantizeModel(model, newFile(), { formats: { default: 'int8' } })).rejects.toThrow(
      /\[head.weight\].*row 0, column 5/,
    );
    expect(readdirSync(folder).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

describe('dropping experts', () => {
  it('drops those of least weight, and leaves the model that never had them', async () => {
    const loads = await expertLoads(sparse, TEXT, { window: 50 });
    expect(loads).toHaveLength(2);
    // Each token's weights sum to 1.
    for (const { weight } of loads) expect(weight.reduce((a, b) => a + b, 0)).toBeCloseTo(TEXT.length, 3);
    const to = newFile();
    const report = await quantizeModel(sparse, to, { dropExperts: 2, text: TEXT, window: 50 });
    expect(report.dropped).toEqual(chooseDropped(loads, 2));
    const kept = (report.dropped ?? []).map((d) => d.kept);
    const tensors = tinyTensors(SPARSE).flatMap((t) => {
      const [, layer, expert] = /layers\.(\d)\.block_sparse_moe\.experts\.(\d)/.exec(t.name) ?? [];
      if (expert !== undefined) {
        const place = (kept[Number(layer)] as number[]).indexOf(Number(expert));
        return place < 0 ? [] : [{ ...t, name: t.name.replace(`experts.${expert}`, `experts.${place}`) }];
      }
      const [, of] = /layers\.(\d)\.block_sparse_moe\.gate/.exec(t.name) ?? [];
      if (of === undefined) return [t];
      const rows = (kept[Number(of)] as number[]).flatMap((e) => [...t.data.subarray(e * 64, (e + 1) * 64)]);
      return [{ ...t, shape: [4, 64], data: Float32Array.from(rows) }];
    });
    const options = { ...SPARSE, nExperts: 4 };
    await using want = await loadLanguageModel(
      await writeTinyFolder(join(folder, 'fewer'), options, { tensors }),
    );
    await using got = await loadLanguageModel(to);
    expect(got.config.moe?.nExperts).toBe(4);
    const logits = async (m: LanguageModel) => (await m.forward({ inputIds: [TEXT] })).logits.data();
    expect(await logits(got)).toEqual(await logits(want));
    expect(report.bytesAfter).toBeLessThan(report.bytesBefore);
  });

  it('keeps the lower number of equals', () => {
    expect(chooseDropped([{ layer: 3, weight: [1, 0, 2, 0, 1] }], 2)).toEqual([
      { layer: 3, weight: [1, 0, 2, 0, 1], kept: [0, 2, 4], lostWeight: 0 },
    ]);
    expect(chooseDropped([{ layer: 3, weight: [1, 1, 1, 1] }], 3)[0]).toMatchObject({
      kept: [0],
      lostWeight: 0.75,
    });
    expect(chooseDropped([{ layer: 0, weight: [0, 0] }], 1)[0]).toMatchObject({ kept: [0], lostWeight: 0 });
  });

  it('takes a count or a share, and leaves as many as a token chooses', async () => {
    const { config } = sparse;
    expect([1, 4, 0.5, 0.34, 0.1].map((n) => countToDrop(config, n))).toEqual([1, 4, 3, 2, 0]);
    for (const wrong of [5, 6, -1, 1.5, 0.99, Number.NaN])
      expect(() => countToDrop(config, wrong)).toThrow(/\[quantize\] got/);
    const grouped = { ...config, moe: { ...(config.moe as object), gating: 'expert-choice' } };
    expect(() => countToDrop(grouped as never, 1)).toThrow(/expert-choice/);
    expect(() => countToDrop({ ...config, moe: null }, 1)).toThrow(/dense/);
    const to = newFile();
    await expect(quantizeModel(sparse, to, { dropExperts: 1 })).rejects.toThrow(/without a text/);
    expect(existsSync(to)).toBe(false);
  });
});
