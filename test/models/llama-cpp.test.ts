// Our GGUF files in llama.cpp's hands, and llama.cpp's own files in ours.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AnyModel, loadModel } from '../../src/generate/load-model.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { hasLlamaCpp, type LlamaCpp, openLlamaCpp } from '../helpers/llama-cpp.js';
import { pythonHas, runPython } from '../helpers/python.js';
import { writeRandomFolder } from '../helpers/random-folder.js';
import { TINY_VOCABULARY } from '../helpers/tiny-model.js';

const place = mkdtempSync(join(tmpdir(), 'switchyard-llama-cpp-'));
afterAll(() => rmSync(place, { recursive: true }));
let count = 0;

const isThere = fixturesFolder !== undefined && hasLlamaCpp("llama.cpp's reading of our GGUF files");
let opened: LlamaCpp | undefined;
const llama = (): LlamaCpp => {
  opened ??= openLlamaCpp(join(place, 'llama'));
  return opened;
};

type Words = Readonly<Record<string, unknown>>;

interface Case {
  readonly name: string;
  /** Words of the config that are others than the fixture's, where GGUF or llama.cpp has none for these. */
  readonly words?: Words;
  /** A config for random weights, instead of a fixture. */
  readonly random?: Words;
  /** Tensors of the variant, where a folder's tensors decide about it. */
  readonly has?: (tensor: string) => boolean;
  /** Largest difference, by the largest value; llama.cpp looks up GELU in a table of float16. */
  readonly tolerance?: number;
  /** What llama.cpp leaves out of its logits. */
  readonly factor?: number;
}
const GELU = 2e-3;
const BUCKETS = { relative_attention_max_distance: 128 };

const T5 = {
  d_model: 32,
  d_kv: 11,
  d_ff: 40,
  num_layers: 3,
  num_decoder_layers: 2,
  num_heads: 4,
  relative_attention_num_buckets: 12,
  vocab_size: TINY_VOCABULARY,
  decoder_start_token_id: 0,
} as const;

const cases: readonly Case[] = [
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

const SMALL = {
  hidden_size: 48,
  num_hidden_layers: 3,
  num_attention_heads: 6,
  num_key_value_heads: 2,
  intermediate_size: 40,
  vocab_size: TINY_VOCABULARY,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-5,
} as const;
const SPARSE = { num_experts: 7, num_experts_per_tok: 3, moe_intermediate_size: 24 } as const;
const ROUTED = {
  n_routed_experts: 8,
  n_shared_experts: 2,
  num_experts_per_tok: 3,
  moe_intermediate_size: 24,
  first_k_dense_replace: 1,
} as const;
const LATENT = {
  // llama.cpp knows one epsilon only
  rms_norm_eps: 1e-6,
  num_key_value_heads: 6,
  kv_lora_rank: 20,
  qk_nope_head_dim: 10,
  qk_rope_head_dim: 6,
  v_head_dim: 14,
} as const;
const yarn = { type: 'yarn', factor: 4, original_max_position_embeddings: 64 } as const;

/**
 * Sizes and options that no fixture has. llama.cpp passes over YaRN's beta_fast and beta_slow and over OLMoE's clip_qkv, which our
 * files say, and computes PhiMoE with RMS norms and softmax routing.
 */
const variants: readonly Case[] = [
  {
    name: 'llama, linear',
    random: { model_type: 'llama', ...SMALL, rope_scaling: { type: 'linear', factor: 2 } },
  },
  { name: 'llama, YaRN', random: { model_type: 'llama', ...SMALL, rope_scaling: yarn } },
  {
    name: 'llama, YaRN with a factor, tied',
    random: {
      model_type: 'llama',
      ...SMALL,
      tie_word_embeddings: true,
      rope_scaling: { ...yarn, attention_factor: 1.7 },
    },
  },
  { name: 'llama, biases', random: { model_type: 'llama', ...SMALL, attention_bias: true } },
  {
    name: 'mistral, wide heads',
    random: { model_type: 'mistral', ...SMALL, head_dim: 14, sliding_window: null },
  },
  { name: 'qwen2', random: { model_type: 'qwen2', ...SMALL } },
  { name: 'qwen3, wide heads', random: { model_type: 'qwen3', ...SMALL, head_dim: 20, rope_scaling: yarn } },
  {
    name: 'qwen3_moe',
    random: { model_type: 'qwen3_moe', ...SMALL, ...SPARSE, head_dim: 8, norm_topk_prob: true },
  },
  {
    name: 'qwen2_moe',
    random: { model_type: 'qwen2_moe', ...SMALL, ...SPARSE, shared_expert_intermediate_size: 56 },
  },
  {
    name: 'mixtral',
    random: { model_type: 'mixtral', ...SMALL, num_local_experts: 5, num_experts_per_tok: 3 },
  },
  { name: 'deepseek', random: { model_type: 'deepseek', ...SMALL, ...ROUTED } },
  {
    name: 'deepseek_v2, no rank of queries, as deep as Lite',
    random: {
      model_type: 'deepseek_v2',
      ...SMALL,
      ...ROUTED,
      ...LATENT,
      num_hidden_layers: 27,
      q_lora_rank: null,
    },
    tolerance: 1e-4,
  },
  {
    name: 'deepseek_v2, magnitudes',
    random: {
      model_type: 'deepseek_v2',
      ...SMALL,
      ...ROUTED,
      ...LATENT,
      q_lora_rank: 18,
      rope_scaling: { ...yarn, mscale: 0.73, mscale_all_dim: 0.73 },
    },
  },
  {
    name: 'deepseek_v3, a prediction layer',
    random: {
      model_type: 'deepseek_v3',
      ...SMALL,
      ...ROUTED,
      ...LATENT,
      q_lora_rank: 18,
      n_group: 4,
      topk_group: 2,
      routed_scaling_factor: 2.5,
      num_nextn_predict_layers: 1,
      rope_scaling: { ...yarn, mscale: 1, mscale_all_dim: 1 },
    },
  },
  {
    name: 'glm4_moe, a prediction layer, no norm of queries',
    random: { model_type: 'glm4_moe', ...SMALL, ...ROUTED, head_dim: 8, num_nextn_predict_layers: 1 },
  },
  { name: 'glm4', random: { model_type: 'glm4', ...SMALL, head_dim: 12 } },
  { name: 'gemma', random: { model_type: 'gemma', ...SMALL, head_dim: 10 }, tolerance: GELU },
  {
    name: 'granitemoe',
    random: {
      model_type: 'granitemoe',
      ...SMALL,
      num_local_experts: 5,
      embedding_multiplier: 3,
      residual_multiplier: 0.5,
      attention_multiplier: 0.3,
      logits_scaling: 4,
    },
  },
  {
    name: 'gpt_oss',
    random: { model_type: 'gpt_oss', ...SMALL, num_local_experts: 5, head_dim: 10, sliding_window: 4 },
  },
  {
    name: 'bert',
    random: {
      model_type: 'bert',
      architectures: ['BertModel'],
      hidden_size: 48,
      num_hidden_layers: 3,
      num_attention_heads: 4,
      intermediate_size: 40,
      max_position_embeddings: 70,
      type_vocab_size: 3,
      vocab_size: TINY_VOCABULARY,
    },
    tolerance: GELU,
  },
  {
    name: 't5, wide heads, untied',
    random: { model_type: 't5', ...T5, tie_word_embeddings: false, feed_forward_proj: 'relu' },
    has: (tensor) => tensor === 'lm_head.weight',
    tolerance: 2e-5,
  },
  { name: "t5's encoder", random: { model_type: 't5', ...T5, architectures: ['T5EncoderModel'] } },
];

/** The fixture with its words changed, or random weights. */
async function folderOf({ name, words, random, has }: Case): Promise<string> {
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
  const failures = new Map<Case, string>();

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
