import { layerNorm } from '../decoder/config.js';
import type { EncoderFamily } from '../family.js';
import { ACTIVATION_KEYS, type ConfigReader } from '../read/config-reader.js';
import { type NameTable, named } from '../read/names.js';
import { type EncoderConfig, type EncoderHead, USUAL_STACK } from '../stacks/stack-config.js';
import { bertGguf } from './bert-gguf.js';
import { labelsOf } from './shared/labels.js';

/** BERT (Devlin et al. 2019): norms behind the blocks, learned positions, segments, and one of several heads. */
export const bert: EncoderFamily = {
  kind: 'encoder',
  modelType: 'bert',
  gguf: bertGguf,
  fromHuggingFace: readBert,
  huggingFaceNames: () => ['bert.', ''].flatMap(encoderNames).concat(HEADS),
  // of the other heads, and a buffer of older versions
  spare: /^cls\.|^(bert\.)?pooler\.|(^|\.)embeddings\.position_ids$/,
};

const ARCHITECTURES: Readonly<Record<string, EncoderHead>> = {
  BertModel: 'none',
  BertForMaskedLM: 'masked-lm',
  BertForPreTraining: 'masked-lm',
  BertForSequenceClassification: 'sequence-classification',
  BertForTokenClassification: 'token-classification',
};

function readBert(c: ConfigReader, has: (tensor: string) => boolean): EncoderConfig {
  const dModel = c.int('hidden_size', 'width');
  const nHeads = c.int('num_attention_heads', 'heads');
  const maxSeqLen = c.int('max_position_embeddings', 'length', 512);
  c.only('position_embedding_type', 'absolute');
  c.only('is_decoder', false);
  c.only('add_cross_attention', false);
  c.raw(
    'attention_probs_dropout_prob',
    'hidden_dropout_prob',
    'classifier_dropout',
    'gradient_checkpointing',
    'directionality',
    'pooler_fc_size',
    'pooler_num_attention_heads',
    'pooler_num_fc_layers',
    'pooler_size_per_head',
    'pooler_type',
  );
  const [name = 'BertModel'] = [c.raw('architectures') ?? []].flat() as string[];
  if (!Object.hasOwn(ARCHITECTURES, name))
    throw c.fail('architectures', `one of ${Object.keys(ARCHITECTURES).join(', ')}`);
  const head = ARCHITECTURES[name] as EncoderHead;
  const classifies = head === 'sequence-classification' || head === 'token-classification';
  const { labels, probabilities } = labelsOf(c);
  return {
    family: 'bert',
    vocabSize: c.int('vocab_size', 'vocabulary'),
    maxSeqLen,
    embeddingScale: 1,
    bosId: null,
    eosIds: [],
    stack: {
      ...USUAL_STACK,
      dModel,
      nLayers: c.int('num_hidden_layers', 'layers'),
      nHeads,
      nKvHeads: nHeads,
      headDim: Math.floor(dModel / nHeads),
      dFf: c.int('intermediate_size', 'width'),
      norm: layerNorm(c.positive('layer_norm_eps', 1e-12)),
      block: 'post',
      learnedPositions: { rows: maxSeqLen, offset: 0 },
      embeddingNorm: true,
      queryKeyValueBias: true,
      outputBias: true,
      activation: c.oneOf('hidden_act', ACTIVATION_KEYS, 'gelu'),
      feedForwardBias: true,
    },
    tokenTypes: c.int('type_vocab_size', 'width', 2),
    head,
    tiedEmbeddings: c.bool('tie_word_embeddings', true) || head !== 'masked-lm',
    pooler:
      head === 'sequence-classification' ||
      (head === 'none' && ['bert.', ''].some((prefix) => has(`${prefix}pooler.dense.weight`))),
    labels: classifies ? labels : [],
    probabilities,
  };
}

const ROOT = {
  embedding: 'embeddings.word_embeddings',
  positions: 'embeddings.position_embeddings',
  token_types: 'embeddings.token_type_embeddings',
  pooler: 'pooler.dense',
} as const;

const LAYER = {
  'attention.q': 'attention.self.query',
  'attention.k': 'attention.self.key',
  'attention.v': 'attention.self.value',
  'attention.o': 'attention.output.dense',
  'feed_forward.up': 'intermediate.dense',
  'feed_forward.down': 'output.dense',
} as const;

/** Norms have two spellings; the older one is that of the first release. */
const norms = (pairs: Readonly<Record<string, string>>, ours: string, theirs: string): NameTable =>
  Object.entries(pairs).flatMap(([part, tensor]) =>
    [
      ['weight', 'weight'],
      ['bias', 'bias'],
      ['weight', 'gamma'],
      ['bias', 'beta'],
    ].map(([end, stored]) => ({ tensor: `${theirs}${tensor}.${stored}`, parts: [`${ours}${part}.${end}`] })),
  );

const encoderNames = (prefix: string): NameTable => [
  ...named(ROOT, '', prefix),
  ...norms({ embedding_norm: 'embeddings.LayerNorm' }, '', prefix),
  ...named(LAYER, 'layers.{i}.', `${prefix}encoder.layer.{i}.`),
  ...norms(
    { attention_norm: 'attention.output.LayerNorm', feed_forward_norm: 'output.LayerNorm' },
    'layers.{i}.',
    `${prefix}encoder.layer.{i}.`,
  ),
];

const HEADS: NameTable = [
  ...named({ head_transform: 'cls.predictions.transform.dense', classes: 'classifier' }),
  ...norms({ head_norm: 'cls.predictions.transform.LayerNorm' }, '', ''),
  { tensor: 'cls.predictions.decoder.weight', parts: ['head.weight'] },
  { tensor: 'cls.predictions.bias', parts: ['head.bias'] },
  { tensor: 'cls.predictions.decoder.bias', parts: ['head.bias'] },
];
