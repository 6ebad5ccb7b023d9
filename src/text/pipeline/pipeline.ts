import { toUSVString } from 'node:util';
import type { AddedToken, TokenizerJson } from '../tokenizer-json.js';
import { AddedTokens, isNormalized } from './added-tokens.js';
import { makeModel, type TokenModel } from './models/index.js';
import { makeNormalizer, type Normalizer } from './normalizers.js';
import { type PairPart, pairParts, type Surroundings, surroundings } from './post-processor.js';
import { makePreTokenizer, type PreTokenizer } from './pre-tokenizers.js';

/** How one text is encoded: which added tokens count, and what is done to a piece before it is cut. */
export interface Encoding {
  readonly added: AddedTokens;
  /** Ids that the model must not make of text; such a token is spelt in characters. */
  readonly forbidden?: ReadonlySet<number>;
  /** Applied to a section after added tokens were found. */
  readonly clean?: (text: string) => string;
}

/**
 * A tokenizer.json at work: normalise, find added tokens, cut, look up, surround. Semantics: the `tokenizers` library,
 * version 0.23.
 */
export class Pipeline {
  /** Of the vocabulary and of added tokens. */
  readonly ids: ReadonlyMap<string, number>;
  /** The token of each id, with holes. */
  readonly tokens: (string | undefined)[];
  /** What added tokens decode to, where that is not the token itself. */
  readonly decodedAs = new Map<number, string>();
  readonly unknownId: number | undefined;
  readonly #model: TokenModel;
  readonly #normalize: Normalizer | undefined;
  readonly #cut: PreTokenizer | undefined;
  readonly #around: Surroundings;
  readonly #makePair: () => readonly PairPart[];

  constructor(json: TokenizerJson) {
    const { model, ids } = makeModel(json.model);
    this.#model = model;
    this.unknownId = model.unknownId;
    this.#normalize = makeNormalizer(json.normalizer);
    this.#cut = makePreTokenizer(json.pre_tokenizer);
    const all = new Map(ids);
    for (const { content, id } of json.added_tokens) all.set(content, id);
    this.ids = all;
    this.tokens = [];
    for (const [token, id] of ids) this.tokens[id] = token;
    for (const token of json.added_tokens) {
      this.tokens[token.id] = token.content;
      const decoded = isNormalized(token) ? this.#normalize?.(token.content) : undefined;
      if (decoded !== undefined) this.decodedAs.set(token.id, decoded);
    }
    this.#around = surroundings(json.post_processor, (token) => all.get(token));
    this.#makePair = () => pairParts(json.post_processor, (token) => all.get(token));
  }

  /** The finder of some added tokens. */
  findAdded(tokens: readonly AddedToken[]): AddedTokens {
    return new AddedTokens(tokens, this.#normalize);
  }

  /** Throws ERR_FORMAT for a text that the vocabulary cannot spell. */
  encode(text: string, encoding: Encoding, addSpecialTokens: boolean): number[] {
    const ids = this.#plain(text, encoding);
    if (!addSpecialTokens) return ids;
    const { before, after } = this.#around;
    return [...before, ...ids, ...after];
  }

  /** Two texts as the model wants them together, and the segment of each token; `cut` shortens the texts to so many tokens. */
  encodePair(
    texts: readonly [string, string],
    encoding: Encoding,
    cut: (lengths: readonly [number, number], special: number) => readonly [number, number],
  ): { ids: number[]; types: number[] } {
    const parts = this.#makePair();
    const plain = texts.map((text) => this.#plain(text, encoding)) as [number[], number[]];
    const special = parts.reduce((n, { ids }) => n + ids.length, 0);
    const most = cut([plain[0].length, plain[1].length], special);
    const found = parts.map(({ ids, text, type }) => ({
      ids: text === undefined ? ids : plain[text].slice(0, most[text]),
      type,
    }));
    return {
      ids: found.flatMap(({ ids }) => ids),
      types: found.flatMap(({ ids, type }) => ids.map(() => type)),
    };
  }

  #plain(text: string, encoding: Encoding): number[] {
    const ids: number[] = [];
    // Half a surrogate pair has no UTF-8 form.
    for (const section of encoding.added.split(toUSVString(text))) {
      if (section.id !== undefined) {
        ids.push(section.id);
        continue;
      }
      const clean = encoding.clean?.(section.text) ?? section.text;
      const pieces = this.#cut === undefined ? [clean] : this.#cut(clean, section.atStart);
      for (const piece of pieces) {
        for (const id of this.#model.encode(piece)) {
          if (encoding.forbidden?.has(id)) ids.push(...this.#spelled(id));
          else ids.push(id);
        }
      }
    }
    return ids;
  }

  #spelled(id: number): number[] {
    return Array.from(this.tokens[id] ?? '').flatMap((char) => this.#model.encode(char));
  }
}
