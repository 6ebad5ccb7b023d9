import { mismatch } from '../core/errors.js';
import type { ChatMessage, ChatTemplate, RenderOptions } from './chat-template.js';
import type { Tokenizer } from './tokenizer.js';

export interface ChatPromptOptions extends RenderOptions {
  /**
   * What a special token written out inside a message means: 'plain' (default) keeps it text, so that nobody can end his
   * turn and begin another one; 'parse' makes it that token.
   */
  special?: 'parse' | 'plain';
}

export interface ChatPrompt {
  /** The rendered prompt. */
  text: string;
  ids: number[];
}

/**
 * Renders a conversation and encodes it; the template writes the special tokens, none are added.
 *
 * With 'plain', special tokens inside strings of messages and tools are marked with a character that occurs nowhere else
 * (a noncharacter of Unicode), the template is rendered, and the marks keep these tokens from being parsed. Only whole
 * tokens, and starts of tokens at the end of a string, are marked, so that templates which look for words in a message
 * find them. `role` is left alone: templates build tokens from it ('<|' + role + '|>').
 */
export function encodeChat(
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly ChatMessage[],
  options: ChatPromptOptions = {},
): ChatPrompt {
  const { special = 'plain', ...render } = options;
  if (special !== 'plain' && special !== 'parse') {
    throw mismatch('ERR_OPTION', 'chat', `special '${special}'`, "'plain' or 'parse'");
  }
  if (special === 'plain') {
    const marker = new Marker(tokenizer, JSON.stringify([messages, render.tools ?? null]));
    const marked = marker.mark(messages, false);
    const tools = render.tools === undefined ? undefined : marker.mark(render.tools, false);
    if (marker.used) {
      // A template may write JSON in ASCII, the mark included.
      const rendered = template.render(marked, { ...render, tools }).replaceAll(marker.escaped, marker.char);
      return {
        text: rendered.replaceAll(marker.char, ''),
        ids: tokenizer.encodeMarked(rendered, marker.char),
      };
    }
  }
  const text = template.render(messages, render);
  return { text, ids: tokenizer.encode(text, { addSpecialTokens: false }) };
}

class Marker {
  readonly char: string;
  readonly escaped: string;
  used = false;
  readonly #tokens: readonly string[];

  constructor(tokenizer: Tokenizer, input: string) {
    const texts = tokenizer.specialIds.map((id) => tokenizer.idToToken(id) ?? '');
    // A token of one character cannot be broken; longer ones first, so that a token inside another does not hide it.
    this.#tokens = texts.filter((text) => text.length > 1).sort((a, b) => b.length - a.length);
    const codes = Array.from({ length: 32 }, (_, i) => 0xfdd0 + i);
    const free = codes.find(
      (code) => !input.includes(String.fromCharCode(code)) && !input.includes(escapeOf(code)),
    );
    if (free === undefined) {
      throw mismatch(
        'ERR_OPTION',
        'chat',
        'every noncharacter from U+FDD0 to U+FDEF in one conversation',
        'text',
      );
    }
    this.char = String.fromCharCode(free);
    this.escaped = escapeOf(free);
  }

  /** A copy of a JSON value with marked strings. */
  mark<T>(value: T, isRole: boolean): T {
    if (typeof value === 'string') return (isRole ? value : this.#markText(value)) as T;
    if (Array.isArray(value)) return value.map((each) => this.mark(each, false)) as T;
    if (typeof value !== 'object' || value === null) return value;
    const entries = Object.entries(value).map(([key, each]) => [
      this.#markText(key),
      this.mark(each, key === 'role'),
    ]);
    return Object.fromEntries(entries) as T;
  }

  #markText(text: string): string {
    let marked = text;
    for (const token of this.#tokens) {
      const broken = token[0] + this.char + token.slice(1);
      // A function, because '$' in a replacement text has a meaning.
      marked = marked.replaceAll(token, () => broken);
    }
    marked = this.#markEnd(marked);
    if (marked !== text) this.used = true;
    return marked;
  }

  /** A start of a token at the end of a part could be completed by the next part. */
  #markEnd(text: string): string {
    const end = text.trimEnd();
    for (const token of this.#tokens) {
      for (let length = Math.min(token.length - 1, end.length); length > 0; length--) {
        if (!end.endsWith(token.slice(0, length))) continue;
        const at = end.length - length + 1;
        return text.slice(0, at) + this.char + text.slice(at);
      }
    }
    return text;
  }
}

const escapeOf = (code: number): string => `\\u${code.toString(16)}`;
