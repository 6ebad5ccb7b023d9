import { layerNorm } from '../decoder/config.js';
import type { EncoderDecoderFamily } from '../family.js';
import { ACTIVATION_KEYS, type ConfigReader } from '../read/config-reader.js';
import { type NameTable, named } from '../read/names.js';
import { type EncoderDecoderConfig, type StackConfig, USUAL_STACK } from '../stacks/stack-config.js';

/** BART (Lewis et al. 2020): norms behind the blocks and behind the embeddings, learned positions from row 2 on. */
export const bart: EncoderDecoderFamily = {
  kind: 'encoder-decoder',
  modelType: 'bart',
  fromHuggingFace(c, has) {
    c.only('normalize_before', false);
    c.only('add_final_layer_norm', false);
    c.only('normalize_embedding', true);
    c.only('static_position_embeddings', false);
    c.only('extra_pos_embeddings', OFFSET);
    c.only('add_bias_logits', false);
    const base = readBartLike(c, 'bart', 'post');
    const length = base.maxSeqLen;
    const stack = {
      learnedPositions: { rows: length + OFFSET, offset: OFFSET },
      embeddingNorm: true,
    } as const;
    return {
      ...base,
      encoder: { ...base.encoder, ...stack },
      decoder: { ...base.decoder, ...stack },
      tiedEmbeddings: !has('lm_head.weight'),
      headBias: has('final_logits_bias'),
    };
  },
  huggingFaceNames: () => [
    { tensor: 'final_logits_bias', parts: ['head.bias'], row: true },
    ...bartNames('encoder_attn', 'fc', 'final_layer_norm'),
    ...['encoder.', 'decoder.'].flatMap((part) =>
      named({ positions: 'embed_positions', embedding_norm: 'layernorm_embedding' }, part, `model.${part}`),
    ),
  ],
  spare: /^(model\.)?(encoder|decoder)\.embed_tokens\.weight$/,
};

/** The first rows belong to no position: the library counted from behind the padding id. */
const OFFSET = 2;

/** The keys that BART shares with its relatives. */
export function readBartLike(c: ConfigReader, family: string, block: 'pre' | 'post'): EncoderDecoderConfig {
  c.raw('dropout', 'attention_dropout', 'activation_dropout', 'classifier_dropout', 'classif_dropout');
  c.raw('encoder_layerdrop', 'decoder_layerdrop', 'init_std', 'gradient_checkpointing', 'num_hidden_layers');
  c.raw('early_stopping', 'length_penalty', 'min_length', 'no_repeat_ngram_size', 'num_beams', 'prefix');
  c.raw('forced_eos_token_id', 'force_bos_token_to_be_generated', 'task_specific_params', 'output_past');
  c.raw('save_step', '_num_labels', 'tie_word_embeddings'); // a file with a head of its own uses it
  c.only('is_encoder_decoder', true);
  c.only('is_decoder', false);
  const dModel = c.int('d_model', 'width', 1024);
  const activation = c.oneOf('activation_function', ACTIVATION_KEYS, family === 'bart' ? 'gelu' : 'relu');
  const stack = (part: 'encoder' | 'decoder'): StackConfig => {
    const nHeads = c.int(`${part}_attention_heads`, 'heads', 16);
    return {
      ...USUAL_STACK,
      dModel,
      nLayers: c.int(`${part}_layers`, 'layers', 12),
      nHeads,
      nKvHeads: nHeads,
      headDim: Math.floor(dModel / nHeads),
      dFf: c.int(`${part}_ffn_dim`, 'width', 4096),
      norm: layerNorm(NORM_EPS),
      block,
      queryKeyValueBias: true,
      outputBias: true,
      activation,
      feedForwardBias: true,
      memory: part === 'decoder',
    };
  };
  const eosIds = c.raw('eos_token_id') === undefined ? [2] : c.ids('eos_token_id');
  return {
    family,
    vocabSize: c.int('vocab_size', 'vocabulary'),
    maxSeqLen: c.int('max_position_embeddings', 'length', 1024),
    embeddingScale: c.bool('scale_embedding', false) ? Math.sqrt(dModel) : 1,
    bosId: c.ids('bos_token_id')[0] ?? null,
    eosIds,
    encoder: stack('encoder'),
    decoder: stack('decoder'),
    tiedEmbeddings: true,
    outputScale: 1,
    headBias: false,
    startId: c.ids('decoder_start_token_id')[0] ?? (eosIds[0] as number),
    forcedBosId: c.ids('forced_bos_token_id')[0] ?? null,
  };
}

/** The default of the library's layer norms, which configs do not repeat. */
const NORM_EPS = 1e-5;

const attention = (ours: string, theirs: string): Readonly<Record<string, string>> => ({
  [`${ours}.q`]: `${theirs}.q_proj`,
  [`${ours}.k`]: `${theirs}.k_proj`,
  [`${ours}.v`]: `${theirs}.v_proj`,
  [`${ours}.o`]: `${theirs}.out_proj`,
  [`${ours}_norm`]: `${theirs}_layer_norm`,
});

/** @param memory attention over the encoder; `feedForward` goes before 1 and 2 */
export const bartNames = (memory: string, feedForward: string, norm: string): NameTable => [
  ...named({ embedding: 'model.shared', head: 'lm_head' }),
  ...['encoder.', 'decoder.'].flatMap((part) =>
    named(
      {
        ...attention('attention', 'self_attn'),
        ...attention('memory', memory),
        'feed_forward.up': `${feedForward}1`,
        'feed_forward.down': `${feedForward}2`,
        feed_forward_norm: norm,
      },
      `${part}layers.{i}.`,
      `model.${part}layers.{i}.`,
    ),
  ),
];
