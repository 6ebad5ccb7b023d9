/** Configs of small encoders and encoder-decoders, for `writeRandomFolder`. */
import { TINY_VOCABULARY } from './tiny-model.js';

export const TINY_BERT = {
  model_type: 'bert',
  architectures: ['BertModel'],
  hidden_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  intermediate_size: 20,
  max_position_embeddings: 64,
  type_vocab_size: 2,
  vocab_size: TINY_VOCABULARY,
  hidden_act: 'gelu',
};

export const TINY_T5 = {
  model_type: 't5',
  d_model: 16,
  d_kv: 5,
  d_ff: 24,
  num_layers: 2,
  num_decoder_layers: 2,
  num_heads: 3,
  relative_attention_num_buckets: 8,
  relative_attention_max_distance: 20,
  vocab_size: TINY_VOCABULARY,
  decoder_start_token_id: 0,
  eos_token_id: 257,
};

/** With experts in one layer of each stack. */
export const TINY_SWITCH = {
  ...TINY_T5,
  model_type: 'switch_transformers',
  num_experts: 4,
  expert_capacity: 2,
  num_sparse_encoder_layers: 1,
  num_sparse_decoder_layers: 1,
};
