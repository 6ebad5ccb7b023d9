import { mismatch } from '../core/errors.js';
import type { AddedToken, TokenizerJson } from './tokenizer-json.js';

/** The typed metadata this module reads; a getter gives `fallback` for a missing key and throws for another type. */
export interface GgufTokenizerMetadata {
  getString(key: string, fallback: undefined): string | undefined;
  getStringArray(key: string, fallback: undefined): readonly string[] | undefined;
  getIntArray(key: string, fallback: undefined): readonly number[] | undefined;
  getFloatArray(key: string, fallback: undefined): readonly number[] | undefined;
  getInt(key: string, fallback: undefined): number | undefined;
  getBool(key: string, fallback: undefined): boolean | undefined;
}

/** `tokenizer.ggml.token_type`. */
export enum TokenType {
  Normal = 1,
  Unknown = 2,
  Control = 3,
  UserDefined = 4,
  Unused = 5,
  Byte = 6,
}

export const prefix = 'tokenizer.ggml.';
export const where = (key: string) => `GGUF ${prefix}${key}`;

export interface Vocabulary {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  /** Every token to its id; the first of equal tokens counts. Without a prototype: '__proto__' is a token like others. */
  readonly ids: Record<string, number>;
  readonly added: AddedToken[];
  token(key: string, id: number): string;
}

/** Every field, as other readers of tokenizer.json want them. */
export const PLAIN = { single_word: false, lstrip: false, rstrip: false, normalized: false } as const;

export function readVocabulary(metadata: GgufTokenizerMetadata): Vocabulary {
  const tokens = metadata.getStringArray(`${prefix}tokens`, undefined);
  if (tokens === undefined || tokens.length === 0) {
    throw mismatch('ERR_FORMAT', where('tokens'), 'no tokens', 'the list of all tokens');
  }
  const types =
    metadata.getIntArray(`${prefix}token_type`, undefined) ?? new Array<number>(tokens.length).fill(1);
  if (types.length !== tokens.length) {
    throw mismatch(
      'ERR_FORMAT',
      where('token_type'),
      `${types.length} types`,
      `one for each of ${tokens.length} tokens`,
    );
  }
  const ids: Record<string, number> = Object.create(null);
  const added: AddedToken[] = [];
  for (const [id, content] of tokens.entries()) {
    ids[content] ??= id;
    const type = types[id];
    const special = type === TokenType.Control || type === TokenType.Unknown;
    // An empty or repeated token can never be found in a text.
    if ((special || type === TokenType.UserDefined) && content !== '' && ids[content] === id) {
      added.push({ ...PLAIN, id, content, special });
    }
  }
  const token = (key: string, id: number) => {
    const text = tokens[id];
    if (text !== undefined) return text;
    throw mismatch('ERR_FORMAT', where(key), `${id}`, `an id from 0 to ${tokens.length - 1}`);
  };
  return { tokens, types, ids, added, token };
}

/** What one kind of vocabulary makes of the metadata. */
export interface Converted {
  json: TokenizerJson;
  /** Whether a text begins with the beginning-of-text token when the file does not say. */
  addBos: boolean;
  /** The same for the end of a text; default false. */
  addEos?: boolean;
  /** The same for a separator at the end, as BERT has one; default false. */
  addSep?: boolean;
}
