import type { EncoderFamily } from '../family.js';
import type { NameTable } from '../read/names.js';
import { feedForwardOf, readT5Like, t5Names } from './t5.js';
import { t5EncoderGguf } from './t5-gguf.js';

/** T5's encoder by itself (Ni et al. 2022), for embeddings. */
export const t5Encoder: EncoderFamily = {
  kind: 'encoder',
  modelType: 't5',
  gguf: t5EncoderGguf,
  owns: ({ architectures }) => Array.isArray(architectures) && architectures[0] === 'T5EncoderModel',
  fromHuggingFace(c) {
    c.raw('tie_word_embeddings', 'scale_decoder_outputs'); // of the decoder
    const base = readT5Like(c, 't5', feedForwardOf(c));
    return {
      family: base.family,
      vocabSize: base.vocabSize,
      maxSeqLen: base.maxSeqLen,
      embeddingScale: 1,
      bosId: base.bosId,
      eosIds: [],
      stack: base.encoder,
      tokenTypes: 0,
      head: 'none',
      tiedEmbeddings: true,
      pooler: false,
      labels: [],
      probabilities: 'softmax',
    };
  },
  huggingFaceNames: ({ stack }) => [
    ...t5Names('DenseReluDense', stack).flatMap(ofEncoder),
    { tensor: 'encoder.embed_tokens.weight', parts: ['embedding.weight'] },
  ],
  spare: /^encoder\.embed_tokens\.weight$/,
};

/** The encoder's entries, whose parts stand by themselves here. */
function ofEncoder({ tensor, parts, ...rest }: NameTable[number]): NameTable {
  if (tensor.startsWith('decoder.')) return [];
  return [{ tensor, parts: parts.map((part) => part.replace(/^encoder\./, '')), ...rest }];
}
