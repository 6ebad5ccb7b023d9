import type { StackGguf } from '../family.js';
import { type GgufKey, type GgufValues, readKeys, writeKeys } from '../gguf/keys.js';
import { type NameTable, named } from '../read/names.js';
import type { EncoderConfig, EncoderDecoderConfig, StackConfig } from '../stacks/stack-config.js';

const layer = (memory: boolean): Readonly<Record<string, string>> => ({
  attention_norm: 'attn_norm',
  'attention.q': 'attn_q',
  'attention.k': 'attn_k',
  'attention.v': 'attn_v',
  'attention.o': 'attn_o',
  ...(memory
    ? {
        memory_norm: 'cross_attn_norm',
        'memory.q': 'cross_attn_q',
        'memory.k': 'cross_attn_k',
        'memory.v': 'cross_attn_v',
        'memory.o': 'cross_attn_o',
      }
    : {}),
  feed_forward_norm: 'ffn_norm',
  'feed_forward.gate': 'ffn_gate',
  'feed_forward.up': 'ffn_up',
  'feed_forward.down': 'ffn_down',
});

/** @param ours prefix of a stack's parts */
const stackNames = (ours: string, theirs: 'enc' | 'dec'): NameTable => [
  ...named({ relative_bias: 'blk.0.attn_rel_b', final_norm: 'output_norm' }, ours, `${theirs}.`),
  ...named(layer(theirs === 'dec'), `${ours}layers.{i}.`, `${theirs}.blk.{i}.`),
];

/** The distance beyond which all share a bucket stands in no key: it is that of all published models. */
const MAX_DISTANCE = 128;

const KEYS: readonly GgufKey[] = [
  ['embedding_length', 'd_model', 'int'],
  ['block_count', 'num_layers', 'int'],
  ['decoder_block_count', 'num_decoder_layers', 'int'],
  ['attention.head_count', 'num_heads', 'int'],
  ['attention.key_length', 'd_kv', 'int'],
  ['feed_forward_length', 'd_ff', 'int'],
  ['attention.layer_norm_rms_epsilon', 'layer_norm_epsilon', 'float'],
  ['attention.relative_buckets_count', 'relative_attention_num_buckets', 'int'],
  ['decoder_start_token_id', 'decoder_start_token_id', 'int'],
  ['vocab_size', 'vocab_size', 'int'],
];

/** Longest text of training, which bounds nothing. */
const USUAL_LENGTH = 512;

const keysOf =
  (arch: string, architecture: string): StackGguf<never>['keys'] =>
  (m, has) => {
    const said = readKeys(KEYS, m, arch);
    return {
      ...said,
      architectures: [architecture],
      relative_attention_max_distance: MAX_DISTANCE,
      feed_forward_proj: has('enc.blk.0.ffn_gate.weight') ? 'gated-gelu' : 'relu',
      tie_word_embeddings: !has('output.weight'),
      vocab_size: said.vocab_size ?? m.getStringArray('tokenizer.ggml.tokens').length,
      pad_token_id: m.getInt('tokenizer.ggml.padding_token_id', 0),
      eos_token_id: m.getInt('tokenizer.ggml.eos_token_id', 1),
    };
  };

function valuesOf(arch: string, vocabSize: number, stack: StackConfig, decoder: object): GgufValues {
  const words = {
    d_model: stack.dModel,
    num_layers: stack.nLayers,
    num_heads: stack.nHeads,
    d_kv: stack.headDim,
    d_ff: stack.dFf,
    layer_norm_epsilon: stack.norm.eps,
    relative_attention_num_buckets: stack.relativeBias?.buckets,
    vocab_size: vocabSize,
    ...decoder,
  };
  return writeKeys(KEYS, words, arch)
    .set(`${arch}.context_length`, USUAL_LENGTH)
    .set(`${arch}.attention.value_length`, stack.headDim)
    .set(`${arch}.attention.layer_norm_epsilon`, { f32: stack.norm.eps });
}

const shared = {
  standsFor: { 'lm_head.weight': 'output.weight' },
  spare: /attn_rel_b\.weight$|^rope_freqs\.weight$/, // files may repeat the table, and name one for attention over the encoder
} as const;

export const t5Gguf: StackGguf<EncoderDecoderConfig> = {
  ...shared,
  architecture: 't5',
  keys: keysOf('t5', 'T5ForConditionalGeneration'),
  values: ({ vocabSize, encoder, decoder, startId }) =>
    valuesOf('t5', vocabSize, encoder, {
      num_decoder_layers: decoder.nLayers,
      decoder_start_token_id: startId,
    }),
  names: [
    ...named({ embedding: 'token_embd', head: 'output' }),
    ...stackNames('encoder.', 'enc'),
    ...stackNames('decoder.', 'dec'),
  ],
};

export const t5EncoderGguf: StackGguf<EncoderConfig> = {
  ...shared,
  architecture: 't5encoder',
  keys: keysOf('t5encoder', 'T5EncoderModel'),
  values: ({ vocabSize, stack }) => valuesOf('t5encoder', vocabSize, stack, {}),
  names: [...named({ embedding: 'token_embd' }), ...stackNames('', 'enc')],
};
