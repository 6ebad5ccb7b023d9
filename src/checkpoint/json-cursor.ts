import { isUtf8 } from 'node:buffer';
import { type Place, quoted } from './checked.js';

export interface JsonLimits {
  /** Deepest nesting of objects and arrays. */
  readonly depth: number;
  /** Most values of all kinds together; bounds what `JSON.parse` may allocate. */
  readonly values: number;
}

const quote = 0x22;
const backslash = 0x5c;
const maxWord = 64;

/** 1 for every byte that a number, true, false or null consists of. */
const isWordByte = Uint8Array.from({ length: 256 }, (_, byte) =>
  /[-+.0-9a-zA-Z]/.test(String.fromCharCode(byte)) ? 1 : 0,
);

/**
 * Walks the bytes of a JSON text, strictly: UTF-8 only, no duplicate keys, bounded depth and size. It reads
 * safetensors headers item by item, so that a hostile header of 100 MB never becomes a tree of objects, and checks
 * other files before `JSON.parse` sees them (which would keep the last of two equal keys).
 */
export class JsonCursor {
  readonly #bytes: Buffer;
  readonly #place: Place;
  #at = 0;

  constructor(bytes: Buffer, place: Place) {
    if (!isUtf8(bytes)) throw place.format('JSON with bytes that are not UTF-8', 'UTF-8 text');
    this.#bytes = bytes;
    this.#place = place;
  }

  /** The next byte that is not white space, as a character; '' at the end. Does not move past it. */
  peek(): string {
    let byte = this.#bytes[this.#at];
    while (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) byte = this.#bytes[++this.#at];
    return byte === undefined ? '' : String.fromCharCode(byte);
  }

  /** Moves past `character` if it comes next. */
  accept(character: string): boolean {
    if (this.peek() !== character) return false;
    this.#at++;
    return true;
  }

  expect(character: string): void {
    if (!this.accept(character)) throw this.#unexpected(`'${character}'`);
  }

  /** Nothing but white space may follow. */
  end(): void {
    if (this.peek() !== '') throw this.#unexpected('the end of the JSON text');
  }

  string(): string {
    this.expect('"');
    const start = this.#at;
    let escaped = false;
    for (let byte = this.#bytes[this.#at]; byte !== quote; byte = this.#bytes[this.#at]) {
      if (byte === undefined || byte < 0x20) throw this.#unexpected('the end of a string');
      if (byte === backslash) {
        escaped = true;
        this.#at++; // whatever is escaped, a quote included
      }
      this.#at++;
    }
    const end = this.#at++;
    if (!escaped) return this.#bytes.toString('utf8', start, end);
    try {
      return JSON.parse(this.#bytes.toString('utf8', start - 1, end + 1)) as string;
    } catch {
      this.#at = start;
      throw this.#unexpected('a string with valid escapes');
    }
  }

  /** A non-negative safe integer in plain digits. */
  count(what: string): number {
    const text = this.#word();
    const value = Number(text);
    if (!/^(0|[1-9][0-9]*)$/.test(text) || !Number.isSafeInteger(value)) {
      throw this.#place.format(`${what} ${text === '' ? this.#found() : text}`, 'an integer from 0 to 2^53');
    }
    return value;
  }

  /** Calls `member` with each key, the cursor standing at its value. Returns the number of members. */
  object(member: (key: string) => void): number {
    const keys = new Set<string>();
    this.expect('{');
    if (this.accept('}')) return 0;
    do {
      const key = this.string();
      if (keys.has(key)) throw this.#place.format(`the JSON key ${quoted(key)} twice`, 'each key once');
      keys.add(key);
      this.expect(':');
      member(key);
    } while (this.accept(','));
    this.expect('}');
    return keys.size;
  }

  /** Calls `item` for each item, the cursor standing at it. */
  array(item: () => void): void {
    this.expect('[');
    if (this.accept(']')) return;
    do item();
    while (this.accept(','));
    this.expect(']');
  }

  /** Moves past one value of any kind, within `limits`. */
  skip(limits: JsonLimits): void {
    let values = 0;
    const value = (depth: number): void => {
      if (++values > limits.values)
        throw this.#place.format(`more than ${limits.values} JSON values`, 'fewer');
      const next = this.peek();
      if (next === '"') this.string();
      else if (next === '{' || next === '[') {
        if (depth >= limits.depth)
          throw this.#place.format(`JSON nested deeper than ${limits.depth}`, 'less');
        if (next === '{') this.object(() => value(depth + 1));
        else this.array(() => value(depth + 1));
      } else this.#literal();
    };
    value(0);
  }

  #literal(): void {
    const start = this.#at;
    const text = this.#word();
    if (/^(true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?)$/.test(text)) return;
    this.#at = start;
    throw this.#unexpected('a JSON value');
  }

  /** Everything up to the next white space or punctuation, cut where no number or literal is as long. */
  #word(): string {
    this.peek();
    const start = this.#at;
    while (this.#at - start < maxWord && isWordByte[this.#bytes[this.#at]] === 1) this.#at++;
    return this.#bytes.toString('latin1', start, this.#at);
  }

  #found(): string {
    const next = this.peek();
    return next === '' ? 'the end of the text' : `'${next}'`;
  }

  #unexpected(expected: string): Error {
    return this.#place.format(`${this.#found()} at byte ${this.#at} of the JSON text`, expected);
  }
}
