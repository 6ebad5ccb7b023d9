import { layerNorm, USUAL } from '../decoder/config.js';
import type { Family } from '../family.js';
import { ACTIVATION_KEYS } from '../read/config-reader.js';
import { type NameTable, named, withoutPrefix } from '../read/names.js';

/** GPT-J (Wang & Komatsuzaki 2021): attention and feed-forward side by side behind one norm, as in PaLM (Chowdhery et al. 2022). */
export const gptJ: Family = {
  modelType: 'gptj',
  fromHuggingFace(c) {
    const dModel = c.int('n_embd', 'width', 4096);
    const nHeads = c.int('n_head', 'heads', 16);
    const headDim = Math.floor(dModel / nHeads);
    const rotaryDim = c.raw('rotary_dim') === undefined ? headDim : c.int('rotary_dim', 'width');
    c.raw('rotary'); // always on
    return {
      ...USUAL,
      family: 'gptj',
      dModel,
      nLayers: c.int('n_layer', 'layers', 28),
      nHeads,
      nKvHeads: nHeads,
      headDim,
      dFf: c.int('n_inner', 'width', 4 * dModel),
      vocabSize: c.int('vocab_size', 'vocabulary', 50400),
      maxSeqLen: c.int('n_positions', 'length', 2048),
      norm: layerNorm(c.positive('layer_norm_epsilon', 1e-5)),
      block: 'parallel',
      dEmbedding: dModel,
      activation: c.oneOf('activation_function', ACTIVATION_KEYS, 'gelu_new'),
      gated: false,
      rope: { theta: 10000, dim: rotaryDim, interleaved: true, scaling: { type: 'default' } },
      tiedEmbeddings: c.bool('tie_word_embeddings', false),
      headBias: true,
      feedForwardBias: true,
      bosId: c.ids('bos_token_id')[0] ?? null,
      eosIds: c.ids('eos_token_id'),
    };
  },
  huggingFaceNames: () => [...NAMES, ...withoutPrefix(NAMES, 'transformer.')],
};

const NAMES: NameTable = [
  ...named({ embedding: 'wte', final_norm: 'ln_f' }, '', 'transformer.'),
  ...named({ head: 'lm_head' }),
  ...named(
    {
      attention_norm: 'ln_1',
      'attention.q': 'attn.q_proj',
      'attention.k': 'attn.k_proj',
      'attention.v': 'attn.v_proj',
      'attention.o': 'attn.out_proj',
      'feed_forward.up': 'mlp.fc_in',
      'feed_forward.down': 'mlp.fc_out',
    },
    'layers.{i}.',
    'transformer.h.{i}.',
  ),
];
