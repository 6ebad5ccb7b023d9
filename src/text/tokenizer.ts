import { Tokenizer as Library } from '@huggingface/tokenizers';
import { checkOptions, mismatch, SwitchyardError } from '../core/errors.js';
import { type DecodeChain, decodeChains, type TokenPiece } from './decode-stages.js';
import { type DecodeOptions, StreamDecoder, type TokenPieces } from './stream-decoder.js';
import {
  type AddedToken,
  checkTokenizerConfig,
  checkTokenizerJson,
  type NamedTemplate,
  type TokenizerConfig,
  type TokenizerJson,
  tokenText,
} from './tokenizer-json.js';

/** Parsed JSON files of a model folder. */
export interface TokenizerFiles {
  tokenizerJson: unknown;
  tokenizerConfig?: unknown;
  specialTokensMap?: unknown;
  /** The text of chat_template.jinja, which outranks the template in tokenizer_config.json. */
  chatTemplate?: string;
  /** The token of every id, for vocabularies in which several ids have the same token. */
  tokens?: readonly string[];
}

export interface EncodeOptions {
  /** Add what the model expects around a text, such as a beginning-of-text token. Default true. */
  addSpecialTokens?: boolean;
  /**
   * What a special token written out in the text means: 'parse' (default) makes it that token, 'plain' keeps it text, so
   * that a user cannot write a system message into his own.
   */
  special?: 'parse' | 'plain';
}

/** The parts of the library's tokenizer that are used; its own types do not resolve under NodeNext. */
interface LibraryModel {
  (pieces: string[]): string[];
  tokens_to_ids: Map<string, number>;
  vocab: (string | undefined)[];
  unk_token?: string | null;
  unk_token_id?: number;
  end_of_word_suffix?: string | null;
  /** Merged words, in BPE models only. */
  cache?: { get(word: string): string[] | undefined; put(word: string, tokens: string[]): void };
}
interface LibraryTokenizer {
  model: LibraryModel;
  pre_tokenizer: ((text: string, options?: object) => string[]) | null;
  decoder: ((tokens: string[]) => string) | null;
  encode(text: string, options: { add_special_tokens: boolean }): { ids: (number | undefined)[] };
}
const LibraryClass = Library as unknown as new (json: object, config: object) => LibraryTokenizer;

/** The names under which files give special tokens. */
const SPECIAL_NAMES = ['bos', 'eos', 'unk', 'pad', 'sep', 'cls', 'mask', 'eot', 'eom'] as const;

/** Text to token ids and back, for every tokenizer that tokenizer.json can describe. */
export class Tokenizer implements TokenPieces {
  /** Number of ids; a model's embedding may have more rows. */
  readonly vocabSize: number;
  readonly specialIds: readonly number[];
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  readonly unkId: number | undefined;
  /** Ids after which a generation is over: end of text, and end of turn or message where the file names them. */
  readonly endIds: readonly number[];
  /** `bos_token`, `eos_token`, … as chat templates see them. */
  readonly specialTokens: Readonly<Record<string, string>>;
  /** The template source, or several under names ('default', 'tool_use', …). */
  readonly chatTemplate: string | readonly NamedTemplate[] | undefined;

  readonly #json: TokenizerJson;
  readonly #library: LibraryTokenizer;
  readonly #special: ReadonlySet<number>;
  readonly #added: ReadonlySet<number>;
  readonly #newChain: () => DecodeChain;
  #plain: LibraryTokenizer | undefined;
  #marked: LibraryTokenizer | undefined;
  #mark = '';

  /** @param files what it was made from, as plain data */
  private constructor(
    json: TokenizerJson,
    config: TokenizerConfig,
    readonly files: TokenizerFiles,
  ) {
    this.#json = json;
    this.#library = build(json, config);
    const { vocab } = this.#library.model;
    for (const [id, token] of (files.tokens ?? []).entries()) vocab[id] ??= token;
    this.vocabSize = vocab.length;

    const names: Record<string, string> = {};
    for (const name of SPECIAL_NAMES) {
      const text = tokenText(config[`${name}_token`]);
      if (text !== undefined) names[`${name}_token`] = text;
    }
    this.specialTokens = names;
    const idOf = (name: string) => (name in names ? this.tokenToId(names[name]) : undefined);
    this.bosId = idOf('bos_token');
    this.eosId = idOf('eos_token');
    this.padId = idOf('pad_token');
    this.unkId = idOf('unk_token') ?? this.#library.model.unk_token_id;

    const ends = ['eos_token', 'eot_token', 'eom_token'].map(idOf);
    this.endIds = [...new Set(ends.filter((id) => id !== undefined))];

    const special = new Set(json.added_tokens.filter((token) => token.special).map((token) => token.id));
    const more = Array.isArray(config.additional_special_tokens) ? config.additional_special_tokens : [];
    for (const text of [...Object.values(names), ...more.map(tokenText)]) {
      const id = text === undefined ? undefined : this.tokenToId(text);
      if (id !== undefined) special.add(id);
    }
    this.#special = special;
    this.specialIds = [...special].sort((a, b) => a - b);
    this.#added = new Set(json.added_tokens.map((token) => token.id));
    this.chatTemplate = files.chatTemplate ?? templateOf(config);

    // Cleaning up blanks is meant for WordPiece and Unigram; in byte-level and BPE vocabularies it would eat real blanks.
    const cleanUp = config.clean_up_tokenization_spaces === true && json.model.type !== 'BPE';
    const suffix = this.#library.model.end_of_word_suffix;
    this.#newChain = decodeChains(json.decoder, {
      cleanUp,
      whole: (tokens) => {
        const text = this.#library.decoder === null ? tokens.join(' ') : this.#library.decoder(tokens);
        return suffix ? text.replaceAll(suffix, ' ').trim() : text;
      },
    });
  }

  /** From parsed files. Throws ERR_FORMAT or ERR_UNSUPPORTED, naming the part. */
  static fromFiles(files: TokenizerFiles): Tokenizer {
    const json = checkTokenizerJson(files.tokenizerJson);
    const config = checkTokenizerConfig(files.tokenizerConfig, files.specialTokensMap);
    return new Tokenizer(json, config, files);
  }

  /** The ids of a text. Throws ERR_OPTION for options it does not know. */
  encode(text: string, options: EncodeOptions = {}): number[] {
    checkOptions('tokenizer.encode', options, ['addSpecialTokens', 'special']);
    if (typeof text !== 'string') throw mismatch('ERR_OPTION', 'tokenizer.encode', typeof text, 'a string');
    const special = options.special ?? 'parse';
    if (special !== 'parse' && special !== 'plain') {
      throw mismatch('ERR_OPTION', 'tokenizer.encode', `special '${special}'`, "'parse' or 'plain'");
    }
    if (special === 'plain') this.#plain ??= this.#guarded((token) => !this.#special.has(token.id));
    const library = special === 'plain' ? this.#plain! : this.#library;
    return this.#ids(library, text, options.addSpecialTokens ?? true);
  }

  /**
   * The ids of a text in which `mark` was put into every special token that is to stay text; `mark` itself is left out.
   * Special tokens without a mark are parsed. No special tokens are added around the text.
   */
  encodeMarked(text: string, mark: string): number[] {
    if (this.#marked === undefined) {
      const marked = this.#guarded(() => true);
      const split = marked.pre_tokenizer;
      marked.pre_tokenizer = (piece, options) => {
        const clean = piece.replaceAll(this.#mark, '');
        return split === null ? [clean] : split(clean, options);
      };
      this.#marked = marked;
    }
    this.#mark = mark;
    return this.#ids(this.#marked, text, false);
  }

  /** The text of ids: what a StreamDecoder gives for them. Throws ERR_OPTION for an id outside the vocabulary. */
  decode(ids: Iterable<number>, options: DecodeOptions = {}): string {
    checkOptions('tokenizer.decode', options, ['skipSpecialTokens']);
    const decoder = new StreamDecoder(this, options);
    let text = '';
    for (const id of ids) text += decoder.push(id);
    return text + decoder.flush();
  }

  tokenToId(token: string): number | undefined {
    return this.#library.model.tokens_to_ids.get(token);
  }

  /** The token as the vocabulary spells it, or undefined for an id that has none. Throws ERR_OPTION outside the vocabulary. */
  idToToken(id: number): string | undefined {
    return this.#library.model.vocab[this.#checkId(id)];
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  piece(id: number): TokenPiece | undefined {
    const text = this.idToToken(id);
    return text === undefined ? undefined : { text, added: this.#added.has(id) };
  }

  decodeChain(): DecodeChain {
    return this.#newChain();
  }

  #checkId(id: number): number {
    if (Number.isInteger(id) && id >= 0 && id < this.vocabSize) return id;
    throw mismatch('ERR_OPTION', 'tokenizer', `token id ${id}`, `an integer from 0 to ${this.vocabSize - 1}`);
  }

  #ids(library: LibraryTokenizer, text: string, addSpecialTokens: boolean): number[] {
    let ids: (number | undefined)[];
    try {
      ids = library.encode(text, { add_special_tokens: addSpecialTokens }).ids;
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw mismatch('ERR_FORMAT', 'tokenizer.encode', reason, 'a text this tokenizer can take', { cause });
    }
    if (ids.includes(undefined)) {
      throw mismatch(
        'ERR_FORMAT',
        'tokenizer.encode',
        'a token outside the vocabulary',
        'a complete tokenizer.json',
      );
    }
    return ids as number[];
  }

  /**
   * A second tokenizer over the same model that knows only some of the added tokens, and never makes a special token out
   * of plain text: where the model itself would (unigram vocabularies hold '</s>'), the token is spelt in characters.
   */
  #guarded(keep: (token: AddedToken) => boolean): LibraryTokenizer {
    const { model } = this.#library;
    const guarded = build(
      {
        ...this.#json,
        model: { type: 'BPE', vocab: {}, merges: [] },
        added_tokens: this.#json.added_tokens.filter(keep),
      },
      {},
    );
    const forbidden = new Set(this.specialIds.map((id) => model.vocab[id] as string));
    if (model.unk_token) forbidden.delete(model.unk_token);
    const encode = (pieces: string[]): string[] => {
      const tokens = model(pieces);
      if (!tokens.some((token) => forbidden.has(token))) return tokens;
      return tokens.flatMap((token) =>
        forbidden.has(token) ? Array.from(token).flatMap((char) => model([char])) : [token],
      );
    };
    guarded.model = Object.assign(encode, {
      tokens_to_ids: model.tokens_to_ids,
      vocab: model.vocab,
      unk_token: model.unk_token,
      unk_token_id: model.unk_token_id,
    });
    return guarded;
  }
}

/**
 * Remembers merged words until it is full, then starts anew. The library's own cache moves a word to the end at every
 * look, which took two thirds of the time of a long text.
 */
class WordCache {
  readonly #words = new Map<string, string[]>();

  get(word: string): string[] | undefined {
    return this.#words.get(word);
  }

  put(word: string, tokens: string[]): void {
    if (this.#words.size >= MOST_CACHED_WORDS) this.#words.clear();
    this.#words.set(word, tokens);
  }
}

const MOST_CACHED_WORDS = 20_000;

function build(json: TokenizerJson, config: TokenizerConfig): LibraryTokenizer {
  try {
    const library = new LibraryClass(json, config);
    if (library.model.cache !== undefined) library.model.cache = new WordCache();
    return library;
  } catch (cause) {
    if (cause instanceof SwitchyardError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    const code =
      reason.startsWith('Unknown') || cause instanceof SyntaxError ? 'ERR_UNSUPPORTED' : 'ERR_FORMAT';
    throw mismatch(code, 'tokenizer.json', reason, 'a tokenizer this version can run', { cause });
  }
}

function templateOf(config: TokenizerConfig): string | NamedTemplate[] | undefined {
  const template: unknown = config.chat_template;
  if (template === undefined || typeof template === 'string') return template;
  const named = (each: unknown): each is NamedTemplate =>
    typeof (each as NamedTemplate)?.name === 'string' &&
    typeof (each as NamedTemplate)?.template === 'string';
  if (Array.isArray(template) && template.every(named)) return template;
  throw mismatch(
    'ERR_FORMAT',
    'tokenizer_config.json: chat_template',
    typeof template,
    'a string or a list of {name, template}',
  );
}
