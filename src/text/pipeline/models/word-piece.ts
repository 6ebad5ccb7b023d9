import { mismatch } from '../../../core/errors.js';
import type { TokenizerModel } from '../../tokenizer-json.js';
import { type TokenModel, WordCache } from './model.js';

/** WordPiece as BERT uses it (arXiv 1810.04805): the longest token that fits, from left to right; else all is unknown. */
export class WordPieceModel implements TokenModel {
  readonly unknownId: number | undefined;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #prefix: string;
  readonly #mostChars: number;
  /** Length of the longest token. */
  #longest = 0;
  readonly #cache = new WordCache();

  constructor(config: TokenizerModel, ids: ReadonlyMap<string, number>) {
    this.#ids = ids;
    this.#prefix = String(config.continuing_subword_prefix ?? '##');
    this.#mostChars = Number(config.max_input_chars_per_word ?? 100);
    this.unknownId = ids.get(config.unk_token ?? '[UNK]');
    for (const token of ids.keys()) this.#longest = Math.max(this.#longest, token.length);
  }

  encode(piece: string): number[] {
    const known = this.#cache.get(piece);
    if (known !== undefined) return known;
    const ids = this.#pieces(piece);
    this.#cache.set(piece, ids);
    return ids;
  }

  #pieces(piece: string): number[] {
    const chars = Array.from(piece);
    if (chars.length > this.#mostChars) return unknownToken(this.unknownId);
    const found: number[] = [];
    let start = 0;
    while (start < chars.length) {
      let id: number | undefined;
      let end = Math.min(chars.length, start + this.#longest);
      for (; end > start; end--) {
        const text = chars.slice(start, end).join('');
        id = this.#ids.get(start > 0 ? this.#prefix + text : text);
        if (id !== undefined) break;
      }
      if (id === undefined) return unknownToken(this.unknownId);
      found.push(id);
      start = end;
    }
    return found;
  }
}

/** A token for each word, as in models that know words only. */
export class WordLevelModel implements TokenModel {
  readonly unknownId: number | undefined;
  readonly #ids: ReadonlyMap<string, number>;

  constructor(config: TokenizerModel, ids: ReadonlyMap<string, number>) {
    this.#ids = ids;
    this.unknownId = ids.get(config.unk_token ?? '<unk>');
  }

  encode(piece: string): number[] {
    const id = this.#ids.get(piece);
    return id === undefined ? unknownToken(this.unknownId) : [id];
  }
}

function unknownToken(id: number | undefined): number[] {
  if (id !== undefined) return [id];
  throw mismatch('ERR_FORMAT', 'tokenizer', 'a word outside the vocabulary', 'an unk_token for it');
}
