import type { GgufMetadata } from '../../checkpoint/gguf-metadata.js';
import type { StackGguf } from '../family.js';
import { type NameTable, named } from '../names.js';

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
const stack = (ours: string, theirs: 'enc' | 'dec'): NameTable => [
  ...named({ relative_bias: 'blk.0.attn_rel_b', final_norm: 'output_norm' }, ours, `${theirs}.`),
  ...named(layer(theirs === 'dec'), `${ours}layers.{i}.`, `${theirs}.blk.{i}.`),
];

/** The distance beyond which all share a bucket stands in no key: it is that of all published models. */
const MAX_DISTANCE = 128;

const keysOf =
  (arch: string) =>
  (m: GgufMetadata, has: (tensor: string) => boolean): Readonly<Record<string, unknown>> => ({
    d_model: m.getInt(`${arch}.embedding_length`),
    num_layers: m.getInt(`${arch}.block_count`),
    num_decoder_layers: m.getInt(`${arch}.decoder_block_count`, undefined),
    num_heads: m.getInt(`${arch}.attention.head_count`),
    d_kv: m.getInt(`${arch}.attention.key_length`),
    d_ff: m.getInt(`${arch}.feed_forward_length`),
    layer_norm_epsilon: m.getFloat(`${arch}.attention.layer_norm_rms_epsilon`, 1e-6),
    relative_attention_num_buckets: m.getInt(`${arch}.attention.relative_buckets_count`),
    relative_attention_max_distance: MAX_DISTANCE,
    feed_forward_proj: has('enc.blk.0.ffn_gate.weight') ? 'gated-gelu' : 'relu',
    tie_word_embeddings: !has('output.weight'),
    decoder_start_token_id: m.getInt(`${arch}.decoder_start_token_id`, undefined),
    vocab_size: m.getInt(`${arch}.vocab_size`, undefined) ?? m.getStringArray('tokenizer.ggml.tokens').length,
    pad_token_id: m.getInt('tokenizer.ggml.padding_token_id', 0),
    eos_token_id: m.getInt('tokenizer.ggml.eos_token_id', 1),
  });

const shared = {
  standsFor: { 'lm_head.weight': 'output.weight' },
  spare: /attn_rel_b\.weight$|^rope_freqs\.weight$/, // files may repeat the table, and name one for attention over the encoder
} as const;

export const t5Gguf: StackGguf = {
  ...shared,
  architecture: 't5',
  keys: keysOf('t5'),
  names: [
    ...named({ embedding: 'token_embd', head: 'output' }),
    ...stack('encoder.', 'enc'),
    ...stack('decoder.', 'dec'),
  ],
};

export const t5EncoderGguf: StackGguf = {
  ...shared,
  architecture: 't5encoder',
  keys: keysOf('t5encoder'),
  names: [...named({ embedding: 'token_embd' }), ...stack('', 'enc')],
};
