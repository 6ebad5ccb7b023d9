import { layerNorm, USUAL } from '../decoder/config.js';
import type { Family } from '../family.js';
import { GGUF_QKV } from '../gguf/names.js';
import { fused, type NameTable, named, withoutPrefix } from '../read/names.js';

/** BLOOM (Scao et al. 2022): slopes instead of positions, a norm of the embedding, query, key and value fused by heads. */
export const bloom: Family = {
  modelType: 'bloom',
  ggufArchitecture: 'bloom',
  ggufNames: GGUF_QKV,
  fromHuggingFace(c) {
    const dModel = c.int(['hidden_size', 'n_embed'], 'width', 64);
    const nHeads = c.int(['n_head', 'num_attention_heads'], 'heads', 8);
    c.only('num_key_value_heads', nHeads);
    c.only('apply_residual_connection_post_layernorm', false);
    c.raw('slow_but_exact'); // how products were summed in training
    // how training fused its steps, in published files
    c.raw(
      'bias_dropout_fusion',
      'masked_softmax_fusion',
      'skip_bias_add',
      'skip_bias_add_qkv',
      'offset_alibi',
    );
    c.only('n_inner', 4 * dModel);
    c.only('intermediate_size', 4 * dModel);
    return {
      ...USUAL,
      family: 'bloom',
      dModel,
      nLayers: c.int(['n_layer', 'num_hidden_layers'], 'layers', 2),
      nHeads,
      nKvHeads: nHeads,
      headDim: Math.floor(dModel / nHeads),
      dFf: 4 * dModel,
      vocabSize: c.int('vocab_size', 'vocabulary', 250880),
      maxSeqLen: c.int(['seq_length', 'max_position_embeddings'], 'length', 2048),
      norm: layerNorm(c.positive('layer_norm_epsilon', 1e-5)),
      dEmbedding: dModel,
      embeddingNorm: true,
      activation: 'gelu_tanh',
      gated: false,
      rope: null,
      alibi: true,
      tiedEmbeddings: c.bool('tie_word_embeddings', true),
      queryKeyValueBias: true,
      outputBias: true,
      feedForwardBias: true,
      bosId: c.ids('bos_token_id')[0] ?? null,
      eosIds: c.ids('eos_token_id'),
    };
  },
  huggingFaceNames({ nHeads }) {
    const parts = ['q', 'k', 'v'].map((part) => `${OURS}attention.${part}`);
    const table = [...NAMES, ...fused(`${THEIRS}self_attention.query_key_value`, parts, { turns: nHeads })];
    return [...table, ...withoutPrefix(table, 'transformer.')];
  },
};

const OURS = 'layers.{i}.';
const THEIRS = 'transformer.h.{i}.';

const NAMES: NameTable = [
  ...named(
    { embedding: 'word_embeddings', embedding_norm: 'word_embeddings_layernorm', final_norm: 'ln_f' },
    '',
    'transformer.',
  ),
  ...named({ head: 'lm_head' }),
  ...named(
    {
      attention_norm: 'input_layernorm',
      'attention.o': 'self_attention.dense',
      feed_forward_norm: 'post_attention_layernorm',
      'feed_forward.up': 'mlp.dense_h_to_4h',
      'feed_forward.down': 'mlp.dense_4h_to_h',
    },
    OURS,
    THEIRS,
  ),
];
