import { mismatch } from '../core/errors.js';

/** A parsed tokenizer.json, as far as this project looks into it. */
export interface TokenizerJson {
  model: TokenizerModel;
  added_tokens: AddedToken[];
  normalizer: unknown;
  pre_tokenizer: unknown;
  post_processor: unknown;
  decoder: unknown;
}

export interface TokenizerModel {
  type: ModelType;
  vocab: Record<string, number> | [string, number][];
  merges?: (string | [string, string])[];
  unk_token?: string | null;
  [key: string]: unknown;
}

/** The models that are built; `makeModel` of the pipeline makes them. */
export const MODEL_TYPES = ['BPE', 'Unigram', 'WordPiece', 'WordLevel'] as const;
export type ModelType = (typeof MODEL_TYPES)[number];

export interface AddedToken {
  id: number;
  content: string;
  special?: boolean;
  normalized?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  single_word?: boolean;
}

export interface TokenizerConfig {
  chat_template?: string | NamedTemplate[];
  clean_up_tokenization_spaces?: boolean;
  additional_special_tokens?: string[];
  [key: string]: unknown;
}

export interface NamedTemplate {
  name: string;
  template: string;
}

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const where = 'tokenizer.json';

/**
 * Checks the shape of a tokenizer.json and fills in what may be left out. Throws ERR_FORMAT for a file that is not a
 * tokenizer and ERR_UNSUPPORTED for parts that change the ids and are not built.
 */
export function checkTokenizerJson(json: unknown): TokenizerJson {
  if (!isObject(json)) throw mismatch('ERR_FORMAT', where, kind(json), 'an object');
  const model = json.model;
  if (!isObject(model)) throw mismatch('ERR_FORMAT', `${where}: model`, kind(model), 'an object');
  const checked = { ...model } as TokenizerModel;
  checked.type ??= guessModelType(model);
  checkVocabulary(checked);
  if (checked.type === 'BPE') {
    checked.merges ??= [];
    if (!Array.isArray(checked.merges))
      throw mismatch('ERR_FORMAT', `${where}: merges`, kind(checked.merges), 'an array');
  }
  return {
    model: checked,
    added_tokens: checkAddedTokens(json.added_tokens),
    normalizer: json.normalizer ?? null,
    pre_tokenizer: json.pre_tokenizer ?? null,
    post_processor: json.post_processor ?? null,
    decoder: json.decoder ?? null,
  };
}

/** Old files name no type: unigram scores stand in a list, merges mean BPE, the rest is WordPiece. */
function guessModelType(model: Json): ModelType {
  if (Array.isArray(model.vocab)) return 'Unigram';
  return 'merges' in model ? 'BPE' : 'WordPiece';
}

function checkVocabulary(model: TokenizerModel): void {
  const place = `${where}: vocab`;
  if (model.type === 'Unigram') {
    const rows: unknown = model.vocab;
    const good = (row: unknown) =>
      Array.isArray(row) && typeof row[0] === 'string' && typeof row[1] === 'number';
    if (!Array.isArray(rows) || rows.length === 0 || !rows.every(good)) {
      throw mismatch('ERR_FORMAT', place, kind(rows), 'a list of [token, score]');
    }
    return;
  }
  if (!MODEL_TYPES.includes(model.type)) {
    throw mismatch('ERR_UNSUPPORTED', `${where}: model type`, `'${model.type}'`, MODEL_TYPES.join(', '));
  }
  if (!isObject(model.vocab)) throw mismatch('ERR_FORMAT', place, kind(model.vocab), 'an object of ids');
  for (const token of Object.keys(model.vocab)) checkId(place, token, model.vocab[token]);
}

function checkAddedTokens(tokens: unknown): AddedToken[] {
  if (tokens === undefined || tokens === null) return [];
  const place = `${where}: added_tokens`;
  if (!Array.isArray(tokens)) throw mismatch('ERR_FORMAT', place, kind(tokens), 'an array');
  return tokens.map((token: unknown) => {
    if (!isObject(token) || typeof token.content !== 'string') {
      throw mismatch('ERR_FORMAT', place, JSON.stringify(token), '{id, content, …}');
    }
    checkId(place, token.content, token.id);
    // An empty added token would match everywhere and never move on.
    if (token.content === '')
      throw mismatch('ERR_FORMAT', place, "''", 'a token with at least one character');
    return token as unknown as AddedToken;
  });
}

/** No published vocabulary has more; a stray id of 2^31 must not allocate an array of that length. */
const MOST_TOKENS = 1 << 24;

function checkId(place: string, token: string, id: unknown): void {
  if (typeof id === 'number' && Number.isInteger(id) && id >= 0 && id < MOST_TOKENS) return;
  throw mismatch(
    'ERR_FORMAT',
    `${place} '${token.slice(0, 40)}'`,
    String(id),
    `an id from 0 to ${MOST_TOKENS - 1}`,
  );
}

/** Checks tokenizer_config.json (nothing in it is required) and folds in special_tokens_map.json, which it outranks. */
export function checkTokenizerConfig(config: unknown, specialTokensMap: unknown): TokenizerConfig {
  if (config !== undefined && !isObject(config)) {
    throw mismatch('ERR_FORMAT', 'tokenizer_config.json', kind(config), 'an object');
  }
  if (specialTokensMap !== undefined && !isObject(specialTokensMap)) {
    throw mismatch('ERR_FORMAT', 'special_tokens_map.json', kind(specialTokensMap), 'an object');
  }
  return { ...specialTokensMap, ...withoutNulls(config ?? {}) } as TokenizerConfig;
}

const withoutNulls = (json: Json): Json =>
  Object.fromEntries(Object.entries(json).filter(([, value]) => value !== null && value !== undefined));

/** The text of a special token, which stands as a string or as `{content}`. */
export function tokenText(value: unknown): string | undefined {
  const text = isObject(value) ? value.content : value;
  return typeof text === 'string' && text !== '' ? text : undefined;
}

function kind(value: unknown): string {
  if (value === null) return 'null';
  return Array.isArray(value) ? 'an array' : `${typeof value}`;
}
