import type { GgufMetadata } from '../../checkpoint/gguf-metadata.js';
import type { StackGguf } from '../family.js';
import { named } from '../names.js';

/** BERT in GGUF files: the layers alone, for embeddings. */
export const bertGguf: StackGguf = {
  architecture: 'bert',
  keys: (m: GgufMetadata) => ({
    architectures: ['BertModel'],
    hidden_size: m.getInt('bert.embedding_length'),
    num_hidden_layers: m.getInt('bert.block_count'),
    num_attention_heads: m.getInt('bert.attention.head_count'),
    intermediate_size: m.getInt('bert.feed_forward_length'),
    max_position_embeddings: m.getInt('bert.context_length'),
    layer_norm_eps: m.getFloat('bert.attention.layer_norm_epsilon'),
    type_vocab_size: m.getInt('tokenizer.ggml.token_type_count', 2),
    vocab_size: m.getInt('bert.vocab_size', undefined) ?? m.getStringArray('tokenizer.ggml.tokens').length,
    is_decoder: m.getBool('bert.attention.causal', false),
  }),
  standsFor: {},
  names: [
    ...named({
      embedding: 'token_embd',
      positions: 'position_embd',
      token_types: 'token_types',
      embedding_norm: 'token_embd_norm',
    }),
    ...named(
      {
        'attention.q': 'attn_q',
        'attention.k': 'attn_k',
        'attention.v': 'attn_v',
        'attention.o': 'attn_output',
        attention_norm: 'attn_output_norm',
        'feed_forward.up': 'ffn_up',
        'feed_forward.down': 'ffn_down',
        feed_forward_norm: 'layer_output_norm',
      },
      'layers.{i}.',
      'blk.{i}.',
    ),
  ],
  spare: /(?!)/, // none: one with a classifier is another model
};
