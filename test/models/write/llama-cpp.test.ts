// Our GGUF files in llama.cpp's hands, and llama.cpp's own files in ours.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AnyModel, loadModel } from '../../../src/generate/handles/load-model.js';
import { fixturesFolder } from '../../helpers/fixtures.js';
import { GELU, type GgufCase, variants } from '../../helpers/gguf-variants.js';
import { hasLlamaCpp, type LlamaCpp, openLlamaCpp } from '../../helpers/llama-cpp.js';
import { pythonHas, runPython } from '../../helpers/python.js';
import { writeRandomFolder } from '../../helpers/random-folder.js';

const place = mkdtempSync(join(tmpdir(), 'switchyard-llama-cpp-'));
afterAll(() => rmSync(place, { recursive: true }));
let count = 0;

const isThere = fixturesFolder !== undefined && hasLlamaCpp("llama.cpp's reading of our GGUF files");
let opened: LlamaCpp | undefined;
const llama = (): LlamaCpp => {
  opened ??= openLlamaCpp(join(place, 'llama'));
  return opened;
};

const BUCKETS = { relative_attention_max_distance: 128 };

const cases: readonly GgufCase[] = [
  { name: 'bloom', tolerance: GELU },
  { name: 'deepseek_v1' },
  // llama.cpp counts a group by its two best experts, as DeepSeek-V3 does.
  { name: 'deepseek_v2', words: { topk_method: 'greedy', n_group: 1, topk_group: 1 } },
  { name: 'deepseek_v3', words: { scoring_func: 'sigmoid' } },
  { name: 'gemma', tolerance: GELU },
  { name: 'glm4' },
  { name: 'glm4_moe' },
  { name: 'gpt2', words: { n_ctx: 128 }, tolerance: GELU },
  // llama.cpp rounds the ends of YaRN's ramp; gpt-oss does not.
  { name: 'gpt_oss', words: { rope_parameters: { rope_type: 'default', rope_theta: 150000 } } },
  { name: 'granitemoe' },
  { name: 'llama' },
  { name: 'llama3_rope' },
  // llama.cpp has no windows for the architecture llama, and its converter drops them.
  { name: 'mistral', words: { sliding_window: null } },
  { name: 'mixtral' },
  { name: 'mixtral_swa', words: { sliding_window: null } },
  { name: 'olmoe' },
  { name: 'qwen2_moe' },
  { name: 'qwen3' },
  { name: 'bert_mlm', words: { architectures: ['BertModel'] }, tolerance: GELU },
  { name: 'bert_classifier', tolerance: GELU },
  // llama.cpp does not scale the decoder's output where the head is the embedding: the order of the logits is the same.
  { name: 't5', words: BUCKETS, factor: Math.sqrt(32) },
  { name: 't5_v1_1', words: BUCKETS, tolerance: GELU },
];

/** The fixture with its words changed, or random weights. */
async function folderOf({ name, words, random, has }: GgufCase): Promise<string> {
  if (random) return writeRandomFolder(join(place, `f${count++}`), random, has ? { has } : {});
  const from = join(fixturesFolder!, name);
  if (words === undefined) return from;
  const to = join(place, `f${count++}`);
  cpSync(from, to, { recursive: true });
  const text = readFileSync(join(from, 'config.json'), 'utf8');
  // Python tells 1.0 from 1.
  const floats = new Set([...text.matchAll(/"(\w+)": -?\d+\.0\b/g)].map(([, key]) => key));
  const written = JSON.stringify({ ...JSON.parse(text), ...words }, null, 1);
  const whole = /"(\w+)": -?\d+(?=[,\n])/g;
  const config = written.replace(whole, (all, key) => (floats.has(key) ? `${all}.0` : all));
  writeFileSync(join(to, 'config.json'), config);
  return to;
}

const ids = [2, 5, 9, 20, 33, 7, 41, 12, 100, 3];
const decoderIds = [0, 4, 8, 15];

/** What a model gives for `ids`: logits of every place, an encoder's states. */
async function valuesOf(model: AnyModel): Promise<Float32Array> {
  const inputs = {
    inputIds: [ids],
    ...(model.kind === 'encoder-decoder' ? { decoderInputIds: [decoderIds] } : {}),
  };
  const out = (await model.forward(inputs as never)) as unknown as Record<
    string,
    { data(): Promise<Float32Array> }
  >;
  return (model.kind === 'encoder' ? out.lastHiddenState : out.logits)!.data();
}

function expectClose(got: Float32Array, want: Float32Array, tolerance: number): void {
  expect(got.length).toBe(want.length);
  const most = Math.max(...want.map(Math.abs));
  let worst = 0;
  for (let i = 0; i < want.length; i++) worst = Math.max(worst, Math.abs(got[i]! - want[i]!) / most);
  expect(worst).toBeLessThan(tolerance);
}

describe.skipIf(!isThere)('llama.cpp', () => {
  it.each([...cases, ...variants])(
    '$name: computes from our file what we do',
    { timeout: 120_000 },
    async (each) => {
      const { tolerance = 5e-6, factor = 1 } = each;
      await using model = await loadModel(await folderOf(each), { dtype: 'f32' });
      const file = join(place, `m${count++}.gguf`);
      await model.save(file, { dtype: 'f32' });
      const want = (await valuesOf(model)).map((value) => value * factor);
      const behind = model.kind === 'encoder-decoder' ? decoderIds : [];
      const command = model.kind === 'encoder' ? 'states' : 'logits';
      expectClose(llama().compute(file, command, ids, behind), want, tolerance);
      if (each.name !== 'bert_classifier') return;
      const { logits } = await model.forward({ inputIds: [ids] } as never);
      expectClose(llama().compute(file, 'scores', ids), (await logits.data()) as Float32Array, tolerance);
    },
  );
});

describe.skipIf(!isThere)("llama.cpp's tokenizers", () => {
  const texts = [
    'The gate decides 42.',
    "Hello, world! It's 12345 o'clock; don't.",
    '  two  spaces and\n\nlines\t tab',
    'Zürich naïve 東京 🚀',
    ' lead',
  ];

  it.each(cases)('$name: reads texts as we do', { timeout: 60_000 }, async (each) => {
    await using model = await loadModel(await folderOf(each), { dtype: 'f32' });
    const file = join(place, `m${count++}.gguf`);
    await model.save(file);
    const paths = texts.map((text, i) => {
      const path = join(place, `text${i}`);
      writeFileSync(path, text);
      return path;
    });
    expect(llama().tokens(file, paths)).toEqual(texts.map((text) => model.tokenizer.encode(text)));
  });
});

const canConvert = isThere && pythonHas(['gguf', 'torch', 'transformers'], "llama.cpp's converter");

describe.skipIf(!canConvert)("llama.cpp's converter", () => {
  // Its files of classifiers lack the pooler.
  const converted = cases.filter(({ name }) => name !== 'bert_classifier');
  const files = new Map(converted.map((each) => [each, join(place, `${each.name}.converted.gguf`)]));
  const failures = new Map<GgufCase, string>();

  beforeAll(async () => {
    const pairs: string[] = [];
    for (const [each, file] of files) pairs.push(await folderOf(each), file);
    const args = [llama().source, ...pairs];
    const results = JSON.parse(runPython('scripts/reference/convert_with_llama_cpp.py', args)) as string[];
    for (const [i, each] of converted.entries()) if (results[i]) failures.set(each, results[i]);
  }, 300_000);

  it.each(converted)('$name: we read its file as the folder', { timeout: 60_000 }, async (each) => {
    expect(failures.get(each)).toBeUndefined();
    await using model = await loadModel(await folderOf(each), { dtype: 'f32' });
    await using read = await loadModel(files.get(each)!, { dtype: 'f32' });
    expectClose(await valuesOf(read), await valuesOf(model), 2e-6);
  });
});
