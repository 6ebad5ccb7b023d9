import { layerNorm, USUAL } from '../decoder/config.js';
import type { Family } from '../family.js';
import { GGUF_QKV } from '../gguf/names.js';
import { ACTIVATION_KEYS } from '../read/config-reader.js';
import { fused, type NameTable, named, withoutPrefix } from '../read/names.js';

/** GPT-2 (Radford et al. 2019): layer norms, learned positions, biases everywhere, matrices stored [in, out]. */
export const gpt2: Family = {
  modelType: 'gpt2',
  ggufArchitecture: 'gpt2',
  ggufNames: GGUF_QKV,
  fromHuggingFace(c) {
    const dModel = c.int(['n_embd', 'hidden_size'], 'width', 768);
    const nHeads = c.int(['n_head', 'num_attention_heads'], 'heads', 12);
    const maxSeqLen = c.int(['n_positions', 'max_position_embeddings'], 'length', 1024);
    c.only('num_key_value_heads', nHeads);
    c.only('scale_attn_weights', true);
    c.only('scale_attn_by_inverse_layer_idx', false);
    c.only('add_cross_attention', false);
    return {
      ...USUAL,
      family: 'gpt2',
      dModel,
      nLayers: c.int(['n_layer', 'num_hidden_layers'], 'layers', 12),
      nHeads,
      nKvHeads: nHeads,
      headDim: Math.floor(dModel / nHeads),
      dFf: c.int(['n_inner', 'intermediate_size'], 'width', 4 * dModel),
      vocabSize: c.int('vocab_size', 'vocabulary', 50257),
      maxSeqLen,
      norm: layerNorm(c.positive('layer_norm_epsilon', 1e-5)),
      dEmbedding: dModel,
      activation: c.oneOf('activation_function', ACTIVATION_KEYS, 'gelu_new'),
      gated: false,
      rope: null,
      learnedPositions: { rows: maxSeqLen, offset: 0 },
      tiedEmbeddings: c.bool('tie_word_embeddings', true),
      queryKeyValueBias: true,
      outputBias: true,
      feedForwardBias: true,
      bosId: c.ids('bos_token_id')[0] ?? null,
      eosIds: c.ids('eos_token_id'),
    };
  },
  huggingFaceNames: () => [...NAMES, ...withoutPrefix(NAMES, 'transformer.')],
};

const OURS = 'layers.{i}.';
const THEIRS = 'transformer.h.{i}.';
const turned = (tensor: string, ...parts: string[]): NameTable =>
  fused(
    `${THEIRS}${tensor}`,
    parts.map((part) => `${OURS}${part}`),
    { transposed: true },
  );

const NAMES: NameTable = [
  ...named({ embedding: 'wte', positions: 'wpe', final_norm: 'ln_f' }, '', 'transformer.'),
  ...named({ head: 'lm_head' }),
  ...named({ attention_norm: 'ln_1', feed_forward_norm: 'ln_2' }, OURS, THEIRS),
  ...turned('attn.c_attn', 'attention.q', 'attention.k', 'attention.v'),
  ...turned('attn.c_proj', 'attention.o'),
  ...turned('mlp.c_fc', 'feed_forward.up'),
  ...turned('mlp.c_proj', 'feed_forward.down'),
];
