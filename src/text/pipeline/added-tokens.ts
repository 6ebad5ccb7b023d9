import type { AddedToken } from '../tokenizer-json.js';
import type { Normalizer } from './normalizers.js';

/** A part of a text: an added token, or text that the model is to cut. */
export interface Section {
  readonly text: string;
  readonly id: number | undefined;
  /** The section begins where the whole text begins. */
  readonly atStart: boolean;
}

/** Whether a token is looked for in the normalised text; then it also decodes to its normalised content. */
export const isNormalized = ({ normalized, special }: AddedToken): boolean => normalized ?? special !== true;

/** Finds added tokens in a text: those that are not normalised in the text as it came, the others after normalising. */
export class AddedTokens {
  readonly #raw: Finder;
  readonly #normalized: Finder;
  readonly #normalize: Normalizer | undefined;

  constructor(tokens: readonly AddedToken[], normalize: Normalizer | undefined) {
    this.#raw = new Finder(
      tokens.filter((token) => !isNormalized(token)).map((token) => [token.content, token]),
    );
    this.#normalized = new Finder(
      tokens.filter(isNormalized).map((token) => [normalize?.(token.content) ?? token.content, token]),
    );
    this.#normalize = normalize;
  }

  /** The sections of a text, normalised, none of them empty. */
  split(text: string): Section[] {
    return this.#raw.split(text, true).flatMap((section) => {
      if (section.id !== undefined) return [section];
      const normalized = this.#normalize?.(section.text) ?? section.text;
      return this.#normalized.split(normalized, section.atStart);
    });
  }
}

const isWord = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
/** Whether a letter, digit or mark stands on one side of [start, end). */
function touchesWord(text: string, start: number, end: number): boolean {
  // Two units hold the last character, whole or not.
  const before = Array.from(text.slice(Math.max(0, start - 2), start)).at(-1) ?? '';
  return isWord.test(before) || isWord.test(String.fromCodePoint(text.codePointAt(end) ?? 0x20));
}
const isSpace = /\p{White_Space}/u;

/** Looks for many strings at once; at each place the longest one counts. */
class Finder {
  readonly #root = new Node();
  /** First units of the tokens: most places of a text begin none. */
  readonly #first: RegExp | undefined;

  constructor(tokens: readonly (readonly [string, AddedToken])[]) {
    for (const [content, token] of tokens) if (content !== '') this.#add(content, token);
    const units = [...this.#root.children.keys()].map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`);
    this.#first = units.length === 0 ? undefined : new RegExp(`[${units.join('')}]`, 'g');
  }

  #add(content: string, token: AddedToken): void {
    let node = this.#root;
    for (let i = 0; i < content.length; i++) {
      const unit = content.charCodeAt(i);
      const child = node.children.get(unit) ?? new Node();
      node.children.set(unit, child);
      node = child;
    }
    node.token = token;
  }

  split(text: string, atStart: boolean): Section[] {
    const sections: Section[] = [];
    let done = 0;
    const put = (from: number, to: number, id?: number) => {
      if (to > from) sections.push({ text: text.slice(from, to), id, atStart: atStart && from === 0 });
    };
    let at = 0;
    for (;;) {
      const found = this.#next(text, at);
      if (found === undefined) break;
      const { token } = found;
      let { start, end } = found;
      at = end;
      if (token.single_word && touchesWord(text, start, end)) continue;
      // Space that the token before has taken is not taken twice.
      if (token.lstrip) while (start > done && isSpace.test(text[start - 1])) start--;
      if (token.rstrip) while (end < text.length && isSpace.test(text[end])) end++;
      put(done, start);
      put(start, end, token.id);
      done = end;
    }
    put(done, text.length);
    return sections;
  }

  #next(text: string, from: number): { token: AddedToken; start: number; end: number } | undefined {
    const first = this.#first;
    if (first === undefined) return undefined;
    first.lastIndex = from;
    for (let match = first.exec(text); match !== null; match = first.exec(text)) {
      const start = match.index;
      let token: AddedToken | undefined;
      let end = start;
      let node = this.#root.children.get(text.charCodeAt(start));
      for (let at = start + 1; node !== undefined; at++) {
        if (node.token !== undefined) {
          token = node.token;
          end = at;
        }
        node = at < text.length ? node.children.get(text.charCodeAt(at)) : undefined;
      }
      if (token !== undefined) return { token, start, end };
      first.lastIndex = start + 1;
    }
    return undefined;
  }
}

class Node {
  readonly children = new Map<number, Node>();
  token: AddedToken | undefined;
}
