import { mismatch } from '../core/errors.js';
import {
  type Converted,
  type GgufTokenizerMetadata,
  prefix,
  TokenType,
  type Vocabulary,
  where,
} from './gguf-vocabulary.js';

/** T5's way: SentencePiece's character map, '▁' for blanks, the segmentation of the best score. */
export function unigramJson(metadata: GgufTokenizerMetadata, vocabulary: Vocabulary): Converted {
  const { tokens, types } = vocabulary;
  const scores = metadata.getFloatArray(`${prefix}scores`, undefined);
  if (scores?.length !== tokens.length) {
    const got = scores === undefined ? 'no scores' : `${scores.length} scores`;
    throw mismatch('ERR_FORMAT', where('scores'), got, `one for each of ${tokens.length} tokens`);
  }
  const typed = types.indexOf(TokenType.Unknown);
  const unknown = metadata.getInt(`${prefix}unknown_token_id`, undefined) ?? (typed < 0 ? undefined : typed);
  if (unknown !== undefined) vocabulary.token('unknown_token_id', unknown);
  const map = metadata.getIntArray(`${prefix}precompiled_charsmap`, undefined);
  const metaspace = {
    type: 'Metaspace',
    replacement: '▁',
    prepend_scheme: metadata.getBool(`${prefix}add_space_prefix`, undefined) === false ? 'never' : 'always',
    split: true,
  };
  const single = metadata.getBool(`${prefix}remove_extra_whitespaces`, undefined) ?? false;
  return {
    json: {
      model: {
        type: 'Unigram',
        unk_id: unknown ?? null,
        // An id that is not used fits no text.
        vocab: tokens.map((token, id): [string, number] => [
          types[id] === TokenType.Unused ? '' : token,
          scores[id],
        ]),
        byte_fallback: types.includes(TokenType.Byte),
      },
      added_tokens: vocabulary.added,
      normalizer:
        map === undefined || map.length === 0
          ? null
          : { type: 'Precompiled', precompiled_charsmap: Buffer.from(map).toString('base64') },
      pre_tokenizer: single
        ? { type: 'Sequence', pretokenizers: [{ type: 'WhitespaceSplit' }, metaspace] }
        : metaspace,
      post_processor: null,
      decoder: metaspace,
    },
    addBos: false,
    addEos: true,
  };
}
