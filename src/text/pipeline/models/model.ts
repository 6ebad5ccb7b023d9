/** The part of a tokenizer that turns a piece of text into ids. */
export interface TokenModel {
  /** Throws ERR_FORMAT where the piece has a part that the vocabulary cannot spell and no unknown token stands for. */
  encode(piece: string): number[];
  readonly unknownId: number | undefined;
}

/** Remembers the ids of words until it is full, then starts anew: looks that keep an order cost more than they save. */
export class WordCache {
  readonly #words = new Map<string, number[]>();

  get(word: string): number[] | undefined {
    return this.#words.get(word);
  }

  set(word: string, ids: number[]): void {
    if (word.length > LONGEST_WORD) return;
    if (this.#words.size >= MOST_WORDS) this.#words.clear();
    this.#words.set(word, ids);
  }
}

const MOST_WORDS = 20_000;
const LONGEST_WORD = 256;

/** '<0x0A>', the token of a byte in vocabularies with byte fallback. */
export const byteToken = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;

/** The ids of the 256 byte tokens, -1 for those that the vocabulary lacks. */
export function byteTokenIds(idOf: (token: string) => number | undefined): Int32Array {
  return Int32Array.from({ length: 256 }, (_, byte) => idOf(byteToken(byte)) ?? -1);
}

/** A text as byte tokens, or undefined where one is missing. */
export function asByteTokens(text: string, ids: Int32Array): number[] | undefined {
  const tokens = Array.from(Buffer.from(text), (byte) => ids[byte]);
  return tokens.includes(-1) ? undefined : tokens;
}
