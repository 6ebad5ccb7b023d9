import { layerNorm, USUAL } from '../decoder/config.js';
import type { Family } from '../family.js';
import { ACTIVATION_KEYS } from '../read/config-reader.js';
import { type NameTable, named, withoutPrefix } from '../read/names.js';

/** The first rows of the table of positions stood for padding. */
const POSITION_OFFSET = 2;
const NORM_EPS = 1e-5;

/** OPT (Zhang et al. 2022): learned positions from row 2 on; the 350M model has its norms behind the residuals. */
export const opt: Family = {
  modelType: 'opt',
  fromHuggingFace(c) {
    const dModel = c.int('hidden_size', 'width', 768);
    const nHeads = c.int('num_attention_heads', 'heads', 12);
    const maxSeqLen = c.int('max_position_embeddings', 'length', 2048);
    const before = c.bool('do_layer_norm_before', true);
    const removed = c.bool('_remove_final_layer_norm', false);
    const bias = c.bool('enable_bias', true);
    c.only('layer_norm_elementwise_affine', true);
    return {
      ...USUAL,
      family: 'opt',
      dModel,
      nLayers: c.int('num_hidden_layers', 'layers', 12),
      nHeads,
      nKvHeads: nHeads,
      headDim: Math.floor(dModel / nHeads),
      dFf: c.int('ffn_dim', 'width', 3072),
      vocabSize: c.int('vocab_size', 'vocabulary', 50272),
      maxSeqLen,
      norm: layerNorm(NORM_EPS),
      block: before ? 'pre' : 'post',
      finalNorm: before && !removed,
      dEmbedding: c.int('word_embed_proj_dim', 'width', dModel),
      activation: c.oneOf('activation_function', ACTIVATION_KEYS, 'relu'),
      gated: false,
      rope: null,
      learnedPositions: { rows: maxSeqLen + POSITION_OFFSET, offset: POSITION_OFFSET },
      tiedEmbeddings: c.bool('tie_word_embeddings', true),
      queryKeyValueBias: bias,
      outputBias: bias,
      feedForwardBias: bias,
      bosId: c.ids('bos_token_id')[0] ?? null,
      eosIds: c.ids('eos_token_id'),
    };
  },
  huggingFaceNames: () => [...NAMES, ...withoutPrefix(NAMES, 'model.')],
};

const NAMES: NameTable = [
  ...named(
    {
      embedding: 'embed_tokens',
      positions: 'embed_positions',
      embedding_projection: 'project_in',
      final_norm: 'final_layer_norm',
      head_projection: 'project_out',
    },
    '',
    'model.decoder.',
  ),
  ...named({ head: 'lm_head' }),
  ...named(
    {
      attention_norm: 'self_attn_layer_norm',
      'attention.q': 'self_attn.q_proj',
      'attention.k': 'self_attn.k_proj',
      'attention.v': 'self_attn.v_proj',
      'attention.o': 'self_attn.out_proj',
      feed_forward_norm: 'final_layer_norm',
      'feed_forward.up': 'fc1',
      'feed_forward.down': 'fc2',
    },
    'layers.{i}.',
    'model.decoder.layers.{i}.',
  ),
];
