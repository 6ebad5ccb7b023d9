import type { GgufMetadata } from '../../checkpoint/gguf-metadata.js';
import type { StackGguf } from '../family.js';
import { type GgufKey, readKeys, writeKeys } from '../gguf/keys.js';
import { named } from '../read/names.js';
import type { EncoderConfig } from '../stacks/stack-config.js';

const ARCH = 'bert';
const KEYS: readonly GgufKey[] = [
  ['embedding_length', 'hidden_size', 'int'],
  ['block_count', 'num_hidden_layers', 'int'],
  ['attention.head_count', 'num_attention_heads', 'int'],
  ['feed_forward_length', 'intermediate_size', 'int'],
  ['context_length', 'max_position_embeddings', 'int'],
  ['attention.layer_norm_epsilon', 'layer_norm_eps', 'float'],
  ['attention.causal', 'is_decoder', 'bool'],
  ['vocab_size', 'vocab_size', 'int'],
];
const SEGMENTS = 'tokenizer.ggml.token_type_count';
const LABELS = `${ARCH}.classifier.output_labels`;

/** BERT in GGUF files: the layers for embeddings, or with a classifier of texts. */
export const bertGguf: StackGguf<EncoderConfig> = {
  architecture: ARCH,
  keys(m: GgufMetadata, has) {
    const said = readKeys(KEYS, m, ARCH);
    const classifies = has('cls.output.weight');
    return {
      ...said,
      architectures: [classifies ? 'BertForSequenceClassification' : 'BertModel'],
      id2label: classifies ? { ...m.getStringArray(LABELS, ['LABEL_0']) } : undefined,
      type_vocab_size: m.getInt(SEGMENTS, 2),
      vocab_size: said.vocab_size ?? m.getStringArray('tokenizer.ggml.tokens').length,
    };
  },
  values({ stack, vocabSize, maxSeqLen, tokenTypes, labels }) {
    const words = {
      hidden_size: stack.dModel,
      num_hidden_layers: stack.nLayers,
      num_attention_heads: stack.nHeads,
      intermediate_size: stack.dFf,
      max_position_embeddings: maxSeqLen,
      layer_norm_eps: stack.norm.eps,
      is_decoder: false,
      vocab_size: vocabSize,
    };
    const values = writeKeys(KEYS, words, ARCH).set(SEGMENTS, tokenTypes);
    return labels.length > 0 ? values.set(LABELS, labels) : values;
  },
  standsFor: { 'pooler.dense.weight': 'cls.weight', 'bert.pooler.dense.weight': 'cls.weight' },
  names: [
    ...named({
      embedding: 'token_embd',
      positions: 'position_embd',
      token_types: 'token_types',
      embedding_norm: 'token_embd_norm',
      pooler: 'cls',
      classes: 'cls.output',
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
  spare: /(?!)/, // none
};
