import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { reportModel } from '../../src/cli/model-report.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { weightsOf } from '../../src/models/parts.js';
import { openModel } from '../../src/models/read/load.js';
import { fixturesFolder } from '../helpers/fixtures.js';

const CONTEXT = 40;
const folders = [
  'llama',
  'llama3_rope',
  'mixtral',
  'mixtral_swa',
  'quant/llama',
  'quant/llama_k',
  'quant/mixtral',
];

describe.skipIf(!fixturesFolder)('the report of a model', () => {
  it.each(folders)('%s: config and tensors agree, and memory is what loading takes', async (name) => {
    const path = join(fixturesFolder as string, name);
    const report = reportModel(openModel(path), CONTEXT);
    expect(report.counted).toEqual(report.parameters);
    expect(report).toMatchObject({ agree: true, extra: [] });
    expect(report.formats.reduce((sum, f) => sum + f.bytes, 0)).toBe(report.fileBytes);

    await using model = await loadLanguageModel(path, { contextLength: CONTEXT });
    const weights = weightsOf(model.decoder).reduce((sum, w) => sum + w.bytes, 0);
    const cache = model.engine.cache.tensors.reduce((sum, t) => sum + t.bytes, 0);
    expect(report.memory).toEqual({ weights, cache, total: weights + cache });
  });
});
