/** The vocabulary as the grammar engine reads it. */
import { SwitchyardError } from '../../core/errors.js';
import type { Tokenizer } from '../../text/tokenizer.js';

/** How tokens are spelled: bytes as letters (GPT-2), '▁' for blanks and <0x0A> for bytes (Llama 2), or as they are. */
export type VocabularyKind = 'byte_level' | 'byte_fallback' | 'raw';

/** @throws SwitchyardError ERR_UNSUPPORTED for a tokenizer whose tokens are no pieces of the text */
export function vocabularyOf(
  tokenizer: Tokenizer,
  vocabSize: number,
): { vocabulary: string[]; kind: VocabularyKind } {
  const kind = kindOf(tokenizer);
  // Special tokens are no text: an empty one is never allowed, but as an end token.
  const vocabulary = Array.from({ length: vocabSize }, (_, id) => {
    if (id >= tokenizer.vocabSize || tokenizer.isSpecial(id)) return '';
    return tokenizer.idToToken(id) ?? '';
  });
  return { vocabulary, kind };
}

function kindOf(tokenizer: Tokenizer): VocabularyKind {
  const { decoder } = tokenizer.files.tokenizerJson as { decoder?: unknown };
  const text = JSON.stringify(decoder ?? null);
  if (text.includes('"ByteLevel"')) return 'byte_level';
  if (text.includes('"ByteFallback"') || text.includes('"Metaspace"') || text.includes('▁'))
    return 'byte_fallback';
  if (text.includes('"WordPiece"'))
    throw new SwitchyardError(
      'ERR_UNSUPPORTED',
      '[grammar] got a WordPiece tokenizer, whose tokens do not tell the blanks between them, expected byte-level BPE, BPE or Unigram',
    );
  return 'raw';
}
