import { mismatch } from '../core/errors.js';
import {
  type Converted,
  type GgufTokenizerMetadata,
  PLAIN,
  prefix,
  TokenType,
  type Vocabulary,
  where,
} from './gguf-vocabulary.js';

/**
 * BERT's way. The file marks beginnings of words by '▁' and leaves the rest bare; Hugging Face leaves beginnings bare and
 * marks the rest by '##'. Whether text becomes small is not in the file: it does where no word of the vocabulary has a
 * capital letter.
 */
export function wordPieceJson(metadata: GgufTokenizerMetadata, vocabulary: Vocabulary): Converted {
  const { tokens, types } = vocabulary;
  const vocab: Record<string, number> = Object.create(null);
  let capitals = false;
  for (const [id, token] of tokens.entries()) {
    // Before control tokens had a type of their own, brackets told them.
    const whole = types[id] !== TokenType.Normal || /^\[.+\]$/.test(token);
    const spelled = whole ? token : token.startsWith('▁') ? token.slice(1) : `##${token}`;
    vocab[spelled] ??= id;
    capitals ||= !whole && /[A-Z]/.test(spelled);
  }
  const unknown = metadata.getInt(`${prefix}unknown_token_id`, undefined) ?? vocab['[UNK]'];
  if (unknown === undefined) {
    throw mismatch('ERR_FORMAT', where('unknown_token_id'), 'none', 'the id of the unknown token');
  }
  const added = vocabulary.added.map((token) => ({ ...token, special: true }));
  for (const content of ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']) {
    const id = vocab[content];
    if (id === undefined || added.some((token) => token.id === id)) continue;
    added.push({ ...PLAIN, id, content, special: true });
  }
  return {
    json: {
      model: {
        type: 'WordPiece',
        vocab,
        unk_token: vocabulary.token('unknown_token_id', unknown),
        continuing_subword_prefix: '##',
        max_input_chars_per_word: 100,
      },
      added_tokens: added,
      normalizer: {
        type: 'BertNormalizer',
        clean_text: true,
        handle_chinese_chars: true,
        strip_accents: null,
        lowercase: !capitals,
      },
      pre_tokenizer: { type: 'BertPreTokenizer' },
      post_processor: null,
      decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    },
    addBos: true,
    addSep: true,
  };
}
