/** A DeepSeek-V3 whose matrices are FP8 (test/fixtures/deepseek_v3_fp8; parity compares it with transformers): what else is done with it. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { reportModel } from '../../../src/cli/model-report.js';
import type { ComputeMode } from '../../../src/core/format.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { weightsOf } from '../../../src/models/parts.js';
import { openModel } from '../../../src/models/read/load.js';
import { quantizeModel } from '../../../src/quantize/index.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { expectClose, expectSame } from '../../parity/compare.js';

const source = fileURLToPath(new URL('../../fixtures/deepseek_v3_fp8', import.meta.url));
const root = temporaryFolder();
const IDS = [7, 33, 12, 40, 5, 21, 9, 15];

const logitsOf = async (model: LanguageModel): Promise<Float32Array> =>
  (await (await model.forward({ inputIds: [IDS] })).logits.data()) as Float32Array;
async function logitsIn(path: string, dtype: ComputeMode | 'auto' = 'f32'): Promise<Float32Array> {
  await using model = await loadLanguageModel(path, { dtype });
  return logitsOf(model);
}

describe('a model in FP8', () => {
  let model: LanguageModel;
  let want: Float32Array;
  beforeAll(async () => {
    model = await loadLanguageModel(source, { dtype: 'f32' });
    want = await logitsOf(model);
  });
  afterAll(() => model?.dispose());

  it('stays FP8 in memory, but for the keys whose heads begin within a block', () => {
    const formats = new Map<string, number>();
    for (const { format } of weightsOf(model.decoder)) formats.set(format, (formats.get(format) ?? 0) + 1);
    // embedding, head and router in 16 bits; keys of each layer in f32
    expect([...formats].sort()).toEqual([
      ['bf16', 3],
      ['f32', 2],
      ['f8_e4m3', 19],
    ]);
  });

  it('is counted as it is stored', () => {
    const report = reportModel(openModel(source), 64);
    expect(report).toMatchObject({ agree: true, extra: [] });
    expect(report.formats.map(({ format }) => format)).toEqual(['f8_e4m3', 'bf16', 'f32']);
    const bytes = weightsOf(model.decoder).reduce((sum, weight) => sum + weight.bytes, 0);
    expect(report.memory?.weights).toBe(bytes);
  });

  it('computes as a model of floats: exactly, or with activations of 16 bits', async () => {
    expectSame('auto', await logitsIn(source, 'auto'), want);
    expectSame('int8', await logitsIn(source, 'int8'), want);
    const rounded = await logitsIn(source, 'bf16');
    expect(rounded).not.toEqual(want);
    expectClose('bf16', rounded, want, { tolerance: 0.05 });
  });

  it('is written as a packed file with the same bits, and as floats', async () => {
    const packed = join(root, 'model.switchyard');
    await model.save(packed);
    expectSame('packed', await logitsIn(packed), want);
    const folder = join(root, 'folder');
    await model.save(folder);
    expectSame('folder', await logitsIn(folder), want);
    const gguf = join(root, 'model.gguf');
    await expect(model.save(gguf)).rejects.toMatchObject({ code: 'ERR_UNSUPPORTED' });
    await model.save(gguf, { dtype: 'f32' });
    expectClose('gguf', await logitsIn(gguf), want, { tolerance: 2e-6 });
  });

  it('is quantised further, what is kept with the same bits', async () => {
    const kept = join(root, 'kept.switchyard');
    await quantizeModel(model, kept, {});
    expectSame('kept', await logitsIn(kept), want);
    const small = join(root, 'int8.switchyard');
    await quantizeModel(model, small, { formats: { experts: 'f16' } });
    expectClose('f16', await logitsIn(small), want, { tolerance: 2e-3 });
  });
});
