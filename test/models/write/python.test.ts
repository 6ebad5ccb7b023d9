import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readGguf } from '../../../src/checkpoint/gguf.js';
import { type AnyModel, loadModel } from '../../../src/generate/handles/load-model.js';
import { fixturesFolder } from '../../helpers/fixtures.js';
import { pythonHas, runPython } from '../../helpers/python.js';
import { readJson } from '../../helpers/tokenizers.js';

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

  it.each(['t5', 't5_v1_1'])(
    'reads the folder that the GGUF file of %s becomes',
    { timeout: 120_000 },
    async (name) => {
      const [gguf, to] = [join(place, `${name}_way.gguf`), join(place, `${name}_back`)];
      await using model = await loadModel(pathOf(name), { dtype: 'f32' });
      await model.save(gguf);
      await using read = await loadModel(gguf, { dtype: 'f32' });
      await read.save(to);
      const { logits, unexpected } = JSON.parse(runPython(script, ['folder', to, join(place, 'ids.json')]));
      expect(unexpected).toEqual([]);
      const want = await logitsOf(model);
      const most = Math.max(...want.map(Math.abs));
      for (let i = 0; i < want.length; i++) expect(Math.abs(logits[i] - want[i]) / most).toBeLessThan(1e-4);
    },
  );
});

const hasGguf = fixturesFolder !== undefined && pythonHas(['gguf'], 'reading our GGUF files');

/** Keys that llama.cpp's loaders demand, behind the architecture's name: of all models, and of some architectures. */
const DEMANDED = ['block_count', 'context_length', 'embedding_length', 'attention.head_count'];
const RMS = 'attention.layer_norm_rms_epsilon';
const LAYER_NORM = 'attention.layer_norm_epsilon';
const EXPERTS = ['expert_count', 'expert_used_count'];
const SHARED = [...EXPERTS, 'expert_feed_forward_length', 'expert_shared_count'];
const DEMANDED_BY: Readonly<Record<string, readonly string[]>> = {
  bert: [LAYER_NORM, 'feed_forward_length', 'attention.causal', 'pooling_type'],
  bloom: [LAYER_NORM, 'feed_forward_length'],
  deepseek: [RMS, ...SHARED, 'leading_dense_block_count', 'expert_weights_scale'],
  deepseek2: [
    RMS,
    ...SHARED,
    'attention.kv_lora_rank',
    'attention.key_length_mla',
    'attention.value_length_mla',
  ],
  gemma: [RMS, 'attention.key_length', 'attention.value_length'],
  glm4: [RMS, 'rope.dimension_count'],
  glm4moe: [RMS, ...SHARED, 'leading_dense_block_count', 'expert_gating_func'],
  gpt2: [LAYER_NORM, 'feed_forward_length'],
  'gpt-oss': [RMS, ...EXPERTS, 'expert_feed_forward_length', 'attention.sliding_window'],
  granitemoe: [RMS, ...EXPERTS, 'logit_scale', 'residual_scale', 'embedding_scale', 'attention.scale'],
  llama: [RMS, 'rope.dimension_count'],
  olmoe: [RMS, ...EXPERTS],
  phimoe: [RMS, ...EXPERTS],
  qwen2moe: [RMS, ...EXPERTS, 'expert_feed_forward_length', 'expert_shared_feed_forward_length'],
  qwen3: [RMS],
  qwen3moe: [RMS, ...EXPERTS, 'expert_feed_forward_length'],
  t5: [RMS, 'attention.relative_buckets_count', 'decoder_block_count', 'decoder_start_token_id'],
};

/** All fixtures that GGUF has words for, some of them with other words in the config; and quantised files. */
const WORDS: Readonly<Record<string, object>> = {
  bert_mlm: { architectures: ['BertModel'] },
  t5: { relative_attention_max_distance: 128 },
  t5_v1_1: { relative_attention_max_distance: 128 },
};
const UNSAYABLE = /^(bart|opt_|switch|prefix_lm|qwen3_moe)/;
const ggufCases =
  fixturesFolder === undefined
    ? []
    : [
        ...readdirSync(fixturesFolder).filter(
          (name) => existsSync(join(from(name), 'config.json')) && !UNSAYABLE.test(name),
        ),
        ...readdirSync(from('quant'))
          .map((name) => `quant/${name}/model.gguf`)
          .filter((path) => existsSync(from(path))),
      ];

function pathOf(name: string): string {
  if (WORDS[name] === undefined) return from(name);
  const to = join(place, `${name}_folder`);
  cpSync(from(name), to, { recursive: true });
  const config = join(to, 'config.json');
  writeFileSync(config, JSON.stringify({ ...readJson(config), ...WORDS[name] }));
  return to;
}

describe.skipIf(!hasGguf)('the gguf package', () => {
  it.each(ggufCases)('reads the file of %s', { timeout: 60_000 }, async (name) => {
    const to = join(place, `${name.replaceAll('/', '_')}.gguf`);
    await using model = await loadModel(pathOf(name), { dtype: 'f32' });
    await model.save(to);
    const { keys, tensors, foreign } = JSON.parse(runPython(script, ['gguf', to]));
    expect(foreign).toEqual([]);
    const file = readGguf(to);
    const arch = file.metadata.getString('general.architecture');
    for (const key of [...DEMANDED, ...DEMANDED_BY[arch]!]) expect(keys).toHaveProperty([`${arch}.${key}`]);
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
