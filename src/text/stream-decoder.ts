import type { DecodeChain, TokenPiece } from './decode-stages.js';

export interface DecodeOptions {
  /** Leave special tokens (beginning of text, end of turn, …) out of the text. Default false. */
  skipSpecialTokens?: boolean;
}

/** What a stream decoder needs of a tokenizer. */
export interface TokenPieces {
  /** The piece of an id, or undefined for an id without a token. Throws ERR_OPTION for an id outside the vocabulary. */
  piece(id: number): TokenPiece | undefined;
  isSpecial(id: number): boolean;
  decodeChain(): DecodeChain;
}

/**
 * Turns a stream of token ids into pieces of text. No piece ends inside a character, and all pieces joined are exactly
 * `tokenizer.decode(ids, options)`. Costs the same for every token, however long the text before it.
 */
export class StreamDecoder {
  readonly #tokenizer: TokenPieces;
  readonly #skipSpecial: boolean;
  #chain: DecodeChain;

  constructor(tokenizer: TokenPieces, options: DecodeOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecial = options.skipSpecialTokens ?? false;
    this.#chain = tokenizer.decodeChain();
  }

  /** The text that `id` settles; often '' while a character is not complete. */
  push(id: number): string {
    const piece = this.#tokenizer.piece(id);
    if (piece === undefined || (this.#skipSpecial && this.#tokenizer.isSpecial(id))) return '';
    return this.#chain.push(piece);
  }

  /** The rest after the last token, with U+FFFD for a character that stayed incomplete. The decoder can be used anew. */
  flush(): string {
    const rest = this.#chain.end();
    this.#chain = this.#tokenizer.decodeChain();
    return rest;
  }
}
