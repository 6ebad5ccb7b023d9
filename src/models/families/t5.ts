import { rmsNorm } from '../decoder/config.js';
import type { EncoderDecoderFamily } from '../family.js';
import type { ConfigReader } from '../read/config-reader.js';
import { type NameTable, named } from '../read/names.js';
import { type EncoderDecoderConfig, type StackConfig, USUAL_STACK } from '../stacks/stack-config.js';
import { activationOf } from './shared/activation.js';
import { t5Gguf } from './t5-gguf.js';

/** Tensors that published files hold besides: the embedding once more, and a bias that cross-attention has not. */
export const T5_SPARE =
  /^(encoder|decoder)\.embed_tokens\.weight$|EncDecAttention\.relative_attention_bias\.weight$/;

/**
 * T5, its version 1.1 and Flan-T5 (Raffel et al. 2020; Shazeer 2020; Chung et al. 2022): RMS norms, a bias by distance
 * instead of positions, scores that are not scaled.
 */
export const t5: EncoderDecoderFamily = {
  kind: 'encoder-decoder',
  modelType: 't5',
  gguf: t5Gguf,
  fromHuggingFace(c, has) {
    const tied = c.bool('tie_word_embeddings', true);
    // later configs call all models tied, and say by a key of its own whether outputs are scaled
    const scaled = c.bool('scale_decoder_outputs', tied);
    const { activation, gated } = feedForwardOf(c);
    const base = readT5Like(c, 't5', { activation, gated });
    return {
      ...base,
      tiedEmbeddings: !has('lm_head.weight'),
      outputScale: scaled ? base.encoder.dModel ** -0.5 : 1,
    };
  },
  huggingFaceNames: ({ encoder }) => t5Names('DenseReluDense', encoder),
  spare: T5_SPARE,
};

/** `ACT` or `gated-ACT`; the gated GELU is the tanh form. */
export function feedForwardOf(c: ConfigReader, fallback = 'relu'): Pick<StackConfig, 'activation' | 'gated'> {
  const text = c.raw('feed_forward_proj') ?? fallback;
  const [first, second, ...rest] = String(text).split('-');
  const gated = first === 'gated' && second !== undefined;
  const name = gated ? second : (first as string);
  if (rest.length > 0 || (second !== undefined && !gated))
    throw c.fail('feed_forward_proj', 'ACTIVATION or gated-ACTIVATION');
  c.only('is_gated_act', gated);
  c.raw('dense_act_fn'); // follows from the other key
  return {
    activation: activationOf(c, 'feed_forward_proj', text === 'gated-gelu' ? 'gelu_new' : name),
    gated,
  };
}

/** The keys that T5 shares with its relatives. */
export function readT5Like(
  c: ConfigReader,
  family: string,
  feedForward: Pick<StackConfig, 'activation' | 'gated'>,
): EncoderDecoderConfig {
  c.raw('dropout_rate', 'initializer_factor', 'classifier_dropout', 'output_past', 'task_specific_params');
  c.raw('gradient_checkpointing', 'n_positions');
  c.raw('is_encoder_decoder'); // false where the encoder stands alone
  c.only('is_decoder', false);
  c.only('add_cross_attention', false);
  const nLayers = c.int('num_layers', 'layers', 6);
  const nHeads = c.int('num_heads', 'heads', 8);
  const stack: StackConfig = {
    ...USUAL_STACK,
    ...feedForward,
    dModel: c.int('d_model', 'width', 512),
    nLayers,
    nHeads,
    nKvHeads: nHeads,
    headDim: c.int('d_kv', 'width', 64),
    dFf: c.int('d_ff', 'width', 2048),
    norm: rmsNorm(c.positive('layer_norm_epsilon', 1e-6)),
    block: 'pre',
    finalNorm: true,
    attentionScale: 1,
    relativeBias: {
      buckets: c.int('relative_attention_num_buckets', 'length', 32),
      maxDistance: c.int('relative_attention_max_distance', 'length', 128),
    },
  };
  const padId = c.ids('pad_token_id')[0] ?? 0;
  return {
    family,
    vocabSize: c.int('vocab_size', 'vocabulary', 32128),
    maxSeqLen: LONGEST,
    embeddingScale: 1,
    bosId: c.ids('bos_token_id')[0] ?? null,
    eosIds: c.raw('eos_token_id') === undefined ? [1] : c.ids('eos_token_id'),
    encoder: stack,
    decoder: { ...stack, nLayers: c.int('num_decoder_layers', 'layers', nLayers), memory: true },
    tiedEmbeddings: true,
    outputScale: 1,
    headBias: false,
    startId: c.ids('decoder_start_token_id')[0] ?? padId,
    forcedBosId: c.ids('forced_bos_token_id')[0] ?? null,
  };
}

/** Distances have no end; what was trained on is 512. */
const LONGEST = 2 ** 31 - 1;

const self = (part: string): Readonly<Record<string, string>> => ({
  attention_norm: 'layer.0.layer_norm',
  'attention.q': 'layer.0.SelfAttention.q',
  'attention.k': 'layer.0.SelfAttention.k',
  'attention.v': 'layer.0.SelfAttention.v',
  'attention.o': 'layer.0.SelfAttention.o',
  feed_forward_norm: `layer.${part === 'encoder' ? 1 : 2}.layer_norm`,
});

const MEMORY = {
  memory_norm: 'layer.1.layer_norm',
  'memory.q': 'layer.1.EncDecAttention.q',
  'memory.k': 'layer.1.EncDecAttention.k',
  'memory.v': 'layer.1.EncDecAttention.v',
  'memory.o': 'layer.1.EncDecAttention.o',
} as const;

const feedForward = (at: string, up: string): Readonly<Record<string, string>> => ({
  'feed_forward.up': `${at}.${up}`,
  'feed_forward.gate': `${at}.wi_0`,
  'feed_forward.down': `${at}.wo`,
  router: `${at}.router.classifier`,
  'experts.up': `${at}.experts.expert_{e}.${up}`,
  'experts.gate': `${at}.experts.expert_{e}.wi_0`,
  'experts.down': `${at}.experts.expert_{e}.wo`,
});
/** @param block how files call a feed-forward layer */
export const t5Names = (block: string, { gated }: { readonly gated: boolean }): NameTable => [
  ...named({ embedding: 'shared', head: 'lm_head' }),
  ...['encoder', 'decoder'].flatMap((part) => {
    const at = `layer.${part === 'encoder' ? 1 : 2}.${block}`;
    const pairs = {
      ...self(part),
      ...(part === 'decoder' ? MEMORY : {}),
      ...feedForward(at, gated ? 'wi_1' : 'wi'),
    };
    const [ours, theirs] = [`${part}.layers.{i}.`, `${part}.block.{i}.`];
    return [
      ...named(
        {
          relative_bias: 'block.0.layer.0.SelfAttention.relative_attention_bias',
          final_norm: 'final_layer_norm',
        },
        `${part}.`,
        `${part}.`,
      ),
      ...named(pairs, ours, theirs),
    ];
  }),
];
