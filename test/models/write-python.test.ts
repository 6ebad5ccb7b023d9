import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readGguf } from '../../src/checkpoint/gguf.js';
import { type AnyModel, loadModel } from '../../src/generate/load-model.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { pythonHas, runPython } from '../helpers/python.js';

const script = 'scripts/reference/read_written.py';
const place = mkdtempSync(join(tmpdir(), 'switchyard-written-'));
afterAll(() => rmSync(place, { recursive: true }));
const ids = [[1, 5, 9, 20, 33, 7]];
writeFileSync(join(place, 'ids.json'), JSON.stringify(ids));
const from = (name: string) => join(fixturesFolder!, name);

async function logitsOf(model: AnyModel): Promise<Float32Array> {
  const inputs = model.kind === 'encoder-decoder' ? { decoderInputIds: [[0, 4, 8]] } : {};
  const output = (await model.forward({ inputIds: ids, ...inputs } as never)) as unknown as {
    logits: { data(): Promise<unknown> };
  };
  return (await output.logits.data()) as Float32Array;
}

const hasTransformers =
  fixturesFolder !== undefined && pythonHas(['transformers', 'torch'], 'reading our folders');

describe.skipIf(!hasTransformers)('transformers', () => {
  it.each([
    // Folders, and GGUF files that become folders.
    'llama',
    'llama3_rope',
    'mixtral',
    'qwen3_moe',
    'qwen2_moe',
    'olmoe',
    'gemma',
    'glm4_moe',
    'granitemoe',
    'phimoe',
    'gpt2',
    'opt_pre',
    'bert_mlm',
    't5_v1_1',
    'bart',
    'switch',
    'bloom',
    'deepseek_v2',
    'deepseek_v3',
    'gpt_oss',
    'quant/llama/model.gguf',
    'quant/mixtral/model.gguf',
  ])('reads the folder of %s', { timeout: 120_000 }, async (name) => {
    const to = join(place, name.replaceAll(/[/.]/g, '_'));
    await using model = await loadModel(from(name), { dtype: 'f32' });
    await model.save(to, { maxShardBytes: 100_000 });
    const read = JSON.parse(runPython(script, ['folder', to, join(place, 'ids.json')]));
    expect(read).toMatchObject({ unexpected: [], mismatched: [] });
    // The head of a tied model is the embedding.
    expect(read.missing.filter((key: string) => !/lm_head|embed_tokens|decoder\.bias/.test(key))).toEqual([]);
    const want = await logitsOf(model);
    const most = Math.max(...want.map(Math.abs));
    expect(read.logits.length).toBe(want.length);
    for (let i = 0; i < want.length; i++)
      expect(Math.abs(read.logits[i] - want[i]) / most).toBeLessThan(1e-4);
    expect(read.ids).toEqual(model.tokenizer.encode('The gate decides 42.'));
  });
});

const hasGguf = fixturesFolder !== undefined && pythonHas(['gguf'], 'reading our GGUF files');

describe.skipIf(!hasGguf)('the gguf package', () => {
  it.each([
    'llama',
    'mixtral',
    'qwen3',
    'glm4_moe',
    'gpt2',
    'quant/llama_k/model.gguf',
    'quant/mixtral/model.gguf',
  ])('reads the file of %s', { timeout: 60_000 }, async (name) => {
    const to = join(place, `${name.replaceAll('/', '_')}.gguf`);
    await using model = await loadModel(from(name), { dtype: 'f32' });
    await model.save(to);
    const { keys, tensors } = JSON.parse(runPython(script, ['gguf', to]));
    const file = readGguf(to);
    const arch = file.metadata.getString('general.architecture');
    expect(keys).toMatchObject({
      'general.architecture': arch,
      [`${arch}.block_count`]: file.metadata.getInt(`${arch}.block_count`),
      'tokenizer.ggml.tokens': file.metadata.getStringArray('tokenizer.ggml.tokens').length,
    });
    const ours = Object.fromEntries(
      [...file.tensors].map(({ name: tensor, format, shape, path, offset, bytes }) => [
        tensor,
        {
          type: format.toUpperCase(),
          shape: [...shape],
          sha256: createHash('sha256')
            .update(readFileSync(path).subarray(offset, offset + bytes))
            .digest('hex'),
        },
      ]),
    );
    expect(Object.keys(tensors).sort()).toEqual(Object.keys(ours).sort());
    for (const [tensor, { type, shape, sha256, sum }] of Object.entries<Record<string, unknown>>(tensors)) {
      expect({ type, shape, sha256 }, tensor).toEqual(ours[tensor]);
      expect(Number.isFinite(sum), tensor).toBe(true);
    }
  });
});
