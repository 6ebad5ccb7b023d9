import { checkOptions, mismatch } from '../core/errors.js';
import { type DecodeChain, decodeChains, type TokenPiece } from './decode-stages.js';
import { type Encoding, Pipeline } from './pipeline/pipeline.js';
import { wholeDecoder } from './pipeline/whole-decoder.js';
import { type DecodeOptions, StreamDecoder, type TokenPieces } from './stream-decoder.js';
import {
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
  readonly #pipeline: Pipeline;
  readonly #parsing: Encoding;
  readonly #special: ReadonlySet<number>;
  readonly #added: ReadonlySet<number>;
  readonly #newChain: () => DecodeChain;
  #plain: Encoding | undefined;

  /** @param files what it was made from, as plain data */
  private constructor(
    json: TokenizerJson,
    config: TokenizerConfig,
    readonly files: TokenizerFiles,
  ) {
    this.#json = json;
    this.#pipeline = new Pipeline(json);
    this.#parsing = { added: this.#pipeline.findAdded(json.added_tokens) };
    const { tokens } = this.#pipeline;
    for (const [id, token] of (files.tokens ?? []).entries()) tokens[id] ??= token;
    this.vocabSize = tokens.length;

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
    this.unkId = idOf('unk_token') ?? this.#pipeline.unknownId;

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
    this.#newChain = decodeChains(json.decoder, { cleanUp, whole: wholeDecoder(json) });
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
    const encoding = special === 'plain' ? this.#plainText() : this.#parsing;
    return this.#pipeline.encode(text, encoding, options.addSpecialTokens ?? true);
  }

  /**
   * Two texts as a model takes them together, such as a question and a passage: ids, and the segment of each. Of texts that are
   * too long the longer one is cut first, at its end.
   * @param options.maxTokens tokens of both at most, special ones counted
   * @throws SwitchyardError ERR_OPTION, ERR_UNSUPPORTED where the tokenizer has no form for two texts
   */
  encodePair(
    text: string,
    pair: string,
    options: { readonly maxTokens?: number } = {},
  ): { ids: number[]; types: number[] } {
    checkOptions('tokenizer.encodePair', options, ['maxTokens']);
    if (typeof text !== 'string' || typeof pair !== 'string')
      throw mismatch(
        'ERR_OPTION',
        'tokenizer.encodePair',
        `${typeof text} and ${typeof pair}`,
        'two strings',
      );
    const { maxTokens = Number.POSITIVE_INFINITY } = options;
    return this.#pipeline.encodePair([text, pair], this.#parsing, (lengths, special) => {
      if (maxTokens >= special) return longestFirst(lengths, maxTokens - special);
      throw mismatch('ERR_OPTION', 'tokenizer.encodePair', `maxTokens ${maxTokens}`, `${special} or more`);
    });
  }

  /**
   * The ids of a text in which `mark` was put into every special token that is to stay text; `mark` itself is left out.
   * Special tokens without a mark are parsed. No special tokens are added around the text.
   */
  encodeMarked(text: string, mark: string): number[] {
    const { added } = this.#parsing;
    const clean = (piece: string) => piece.replaceAll(mark, '');
    return this.#pipeline.encode(text, { added, forbidden: this.#forbidden(), clean }, false);
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
    return this.#pipeline.ids.get(token);
  }

  /** The token as the vocabulary spells it, or undefined for an id that has none. Throws ERR_OPTION outside the vocabulary. */
  idToToken(id: number): string | undefined {
    return this.#pipeline.tokens[this.#checkId(id)];
  }

  isSpecial(id: number): boolean {
    return this.#special.has(id);
  }

  piece(id: number): TokenPiece | undefined {
    const text = this.#pipeline.decodedAs.get(id) ?? this.idToToken(id);
    return text === undefined ? undefined : { text, added: this.#added.has(id) };
  }

  decodeChain(): DecodeChain {
    return this.#newChain();
  }

  #checkId(id: number): number {
    if (Number.isInteger(id) && id >= 0 && id < this.vocabSize) return id;
    throw mismatch('ERR_OPTION', 'tokenizer', `token id ${id}`, `an integer from 0 to ${this.vocabSize - 1}`);
  }

  /** Special tokens stay text; added tokens that are not special are still found. */
  #plainText(): Encoding {
    this.#plain ??= {
      added: this.#pipeline.findAdded(this.#json.added_tokens.filter(({ id }) => !this.#special.has(id))),
      forbidden: this.#forbidden(),
    };
    return this.#plain;
  }

  /** Special tokens that the model itself would make of plain text: unigram vocabularies hold '</s>'. */
  #forbidden(): ReadonlySet<number> {
    const forbidden = new Set(this.#special);
    if (this.#pipeline.unknownId !== undefined) forbidden.delete(this.#pipeline.unknownId);
    return forbidden;
  }
}

/** Lengths of two texts that are `most` together: the longer one gives first, then both are halves (the tokenizers library). */
function longestFirst([a, b]: readonly [number, number], most: number): readonly [number, number] {
  if (a + b <= most) return [a, b];
  const short = Math.min(a, b);
  const long = most - short;
  const [less, more] = short <= long ? [short, long] : [Math.floor(most / 2), Math.ceil(most / 2)];
  return a <= b ? [less, more] : [more, less];
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
