// GGUF files of encoders and encoder-decoders: the bits of a folder with the same values. Names and keys are the format's own,
// as its published tables have them.
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import type { EncoderModel } from '../../../src/generate/handles/encoder-model.js';
import { type AnyModel, loadModel } from '../../../src/generate/handles/load-model.js';
import { put, temporaryFolder } from '../../helpers/checkpoint.js';
import { ggufBytes, type MetadataToWrite } from '../../helpers/gguf-writer.js';
import { randomTensors, writeRandomFolder } from '../../helpers/random-folder.js';
import { TINY_VOCABULARY, tinyMetadata } from '../../helpers/tiny-model.js';
import { TINY_BERT } from '../../helpers/tiny-stacks.js';
import { expectSame } from '../../parity/compare.js';

const root = temporaryFolder();
const open: AnyModel[] = [];
afterAll(() => Promise.all(open.map((model) => model.dispose())));
async function load(path: string): Promise<AnyModel> {
  const model = await loadModel(path, { dtype: 'f32', contextLength: 64 });
  open.push(model);
  return model;
}

type Pairs = readonly (readonly [folder: RegExp, gguf: string])[];

const BERT_NAMES: Pairs = [
  [/^bert\.embeddings\.word_embeddings\./, 'token_embd.'],
  [/^bert\.embeddings\.position_embeddings\./, 'position_embd.'],
  [/^bert\.embeddings\.token_type_embeddings\./, 'token_types.'],
  [/^bert\.embeddings\.LayerNorm\./, 'token_embd_norm.'],
  [/^bert\.encoder\.layer\.(\d+)\.attention\.self\.query\./, 'blk.$1.attn_q.'],
  [/^bert\.encoder\.layer\.(\d+)\.attention\.self\.key\./, 'blk.$1.attn_k.'],
  [/^bert\.encoder\.layer\.(\d+)\.attention\.self\.value\./, 'blk.$1.attn_v.'],
  [/^bert\.encoder\.layer\.(\d+)\.attention\.output\.dense\./, 'blk.$1.attn_output.'],
  [/^bert\.encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\./, 'blk.$1.attn_output_norm.'],
  [/^bert\.encoder\.layer\.(\d+)\.intermediate\.dense\./, 'blk.$1.ffn_up.'],
  [/^bert\.encoder\.layer\.(\d+)\.output\.dense\./, 'blk.$1.ffn_down.'],
  [/^bert\.encoder\.layer\.(\d+)\.output\.LayerNorm\./, 'blk.$1.layer_output_norm.'],
];
const T5_NAMES: Pairs = [
  [/^shared\./, 'token_embd.'],
  [/^lm_head\./, 'output.'],
  [/^(enc|dec)oder\.final_layer_norm\./, '$1.output_norm.'],
  [/^(enc|dec)oder\.block\.(\d+)\.layer\.0\.layer_norm\./, '$1.blk.$2.attn_norm.'],
  [/^(enc|dec)oder\.block\.(\d+)\.layer\.0\.SelfAttention\.([qkvo])\./, '$1.blk.$2.attn_$3.'],
  [/^(enc|dec)oder\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\./, '$1.blk.0.attn_rel_b.'],
  [/^decoder\.block\.(\d+)\.layer\.1\.layer_norm\./, 'dec.blk.$1.cross_attn_norm.'],
  [/^decoder\.block\.(\d+)\.layer\.1\.EncDecAttention\.([qkvo])\./, 'dec.blk.$1.cross_attn_$2.'],
  [/^encoder\.block\.(\d+)\.layer\.1\.layer_norm\./, 'enc.blk.$1.ffn_norm.'],
  [/^decoder\.block\.(\d+)\.layer\.2\.layer_norm\./, 'dec.blk.$1.ffn_norm.'],
  [/^(enc|dec)oder\.block\.(\d+)\.layer\.[12]\.DenseReluDense\.wi_0\./, '$1.blk.$2.ffn_gate.'],
  [/^(enc|dec)oder\.block\.(\d+)\.layer\.[12]\.DenseReluDense\.wi(_1)?\./, '$1.blk.$2.ffn_up.'],
  [/^(enc|dec)oder\.block\.(\d+)\.layer\.[12]\.DenseReluDense\.wo\./, '$1.blk.$2.ffn_down.'],
];

const u32 = (value: number): MetadataToWrite => ({ type: 'u32', value });
const f32 = (value: number): MetadataToWrite => ({ type: 'f32', value });

function writeGguf(
  name: string,
  config: object,
  names: Pairs,
  own: readonly [string, MetadataToWrite][],
  has?: (tensor: string) => boolean,
): string {
  const tensors = randomTensors(config as Record<string, unknown>, has ? { has } : {}).map((t) => {
    const pair = names.find(([folder]) => folder.test(t.name));
    if (!pair) throw new Error(`no name for ${t.name}`);
    const data = new Uint8Array(t.data.buffer);
    return { name: t.name.replace(...pair), dims: [...t.shape].reverse(), type: 0, data };
  });
  const tokenizer = tinyMetadata({}).filter(([key]) => key.startsWith('tokenizer.'));
  return put(root, `${name}.gguf`, ggufBytes({ metadata: [...own, ...tokenizer], tensors }));
}

it('BERT', async () => {
  const config = {
    ...TINY_BERT,
    max_position_embeddings: 30,
    layer_norm_eps: 1e-7,
  };
  const file = writeGguf('bert', config, BERT_NAMES, [
    ['general.architecture', { type: 'string', value: 'bert' }],
    ['bert.embedding_length', u32(12)],
    ['bert.block_count', u32(2)],
    ['bert.attention.head_count', u32(3)],
    ['bert.feed_forward_length', u32(20)],
    ['bert.context_length', u32(30)],
    ['bert.attention.layer_norm_epsilon', f32(1e-7)],
    ['bert.attention.causal', { type: 'bool', value: false }],
    ['bert.pooling_type', u32(2)],
    ['tokenizer.ggml.token_type_count', u32(2)],
  ]);
  const [a, b] = [await load(await writeRandomFolder(join(root, 'bert'), config)), await load(file)];
  if (a.kind !== 'encoder' || b.kind !== 'encoder') throw new Error('no encoders');
  const inputs = { inputIds: [[5, 6, 7, 8, 9]], tokenTypeIds: [[0, 0, 1, 1, 1]] };
  const states = async (model: EncoderModel) => (await model.forward(inputs)).lastHiddenState.data();
  expectSame('states', await states(b), await states(a));
  expect(b.embedding.pooling).toBe('cls');
});

const T5 = {
  model_type: 't5',
  d_model: 12,
  d_kv: 5,
  d_ff: 20,
  num_layers: 2,
  num_decoder_layers: 3,
  num_heads: 3,
  relative_attention_num_buckets: 12,
  relative_attention_max_distance: 128,
  layer_norm_epsilon: 1e-6,
  vocab_size: TINY_VOCABULARY,
  decoder_start_token_id: 0,
};
const t5Metadata = (arch: string): [string, MetadataToWrite][] => [
  ['general.architecture', { type: 'string', value: arch }],
  [`${arch}.embedding_length`, u32(12)],
  [`${arch}.block_count`, u32(2)],
  [`${arch}.decoder_block_count`, u32(3)],
  [`${arch}.attention.head_count`, u32(3)],
  [`${arch}.attention.key_length`, u32(5)],
  [`${arch}.attention.value_length`, u32(5)],
  [`${arch}.feed_forward_length`, u32(20)],
  [`${arch}.context_length`, u32(512)],
  [`${arch}.attention.layer_norm_epsilon`, f32(1e-6)],
  [`${arch}.attention.layer_norm_rms_epsilon`, f32(1e-6)],
  [`${arch}.attention.relative_buckets_count`, u32(12)],
  [`${arch}.decoder_start_token_id`, u32(0)],
];

it.each([
  ['tied, without a gate', { feed_forward_proj: 'relu', tie_word_embeddings: true }],
  ['untied, with a gate', { feed_forward_proj: 'gated-gelu', tie_word_embeddings: false }],
])('T5 %s', async (name, variant) => {
  const config = { ...T5, ...variant };
  const has = (tensor: string) =>
    (tensor === 'lm_head.weight' && !variant.tie_word_embeddings) ||
    (variant.feed_forward_proj === 'gated-gelu' && tensor.endsWith('wi_1.weight'));
  const file = writeGguf(name, config, T5_NAMES, t5Metadata('t5'), has);
  const [a, b] = [await load(await writeRandomFolder(join(root, name), config, { has })), await load(file)];
  if (a.kind !== 'encoder-decoder' || b.kind !== 'encoder-decoder') throw new Error('no encoder-decoders');
  const inputs = { inputIds: [[5, 6, 7, 8, 9]], decoderInputIds: [[0, 10, 11]] };
  const [want, got] = [await a.forward(inputs), await b.forward(inputs)];
  expectSame('logits', await got.logits.data(), await want.logits.data());
});

it("T5's encoder by itself", async () => {
  const config = { ...T5, architectures: ['T5EncoderModel'], feed_forward_proj: 'relu' };
  const file = writeGguf('encoder', config, T5_NAMES, t5Metadata('t5encoder'));
  const [a, b] = [await load(await writeRandomFolder(join(root, 'encoder'), config)), await load(file)];
  const written = join(root, 'written.gguf');
  await a.save(written);
  const vector = async (model: AnyModel) => (await model.embed(['some text']))[0] as Float32Array;
  const want = await vector(a);
  expectSame('vector', await vector(b), want);
  expectSame('vector of our file', await vector(await load(written)), want);
});
