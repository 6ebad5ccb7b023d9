import { mismatch } from '../../core/errors.js';

const where = 'tokenizer.json: Precompiled';

/**
 * SentencePiece's character map: a double-array trie of UTF-8 keys whose values are places in a block of replacement
 * texts, each ended by a zero byte. Layout: trie length in bytes (u32), trie units (u32 each), texts.
 */
export class CharacterMap {
  readonly #units: Uint32Array;
  readonly #texts: Uint8Array;
  readonly #segments = new Intl.Segmenter(undefined, { granularity: 'grapheme' });
  readonly #known = new Map<string, string | undefined>();

  /** @param bytes the map as SentencePiece stores it. Throws ERR_FORMAT when it is cut. */
  constructor(bytes: Uint8Array) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const size = bytes.byteLength < 4 ? -1 : view.getUint32(0, true);
    if (size < 4 || size % 4 !== 0 || size + 4 > bytes.byteLength) {
      throw mismatch('ERR_FORMAT', where, `a map of ${bytes.byteLength} bytes`, 'a whole character map');
    }
    this.#units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#texts = bytes.subarray(4 + size);
  }

  /** A grapheme of fewer than 6 bytes that has a replacement is replaced as a whole, any other one by characters. */
  normalize(text: string): string {
    let out = '';
    for (const { segment } of this.#segments.segment(text)) {
      const whole = Buffer.byteLength(segment) < 6 ? this.#replacement(segment) : undefined;
      if (whole !== undefined) out += whole;
      else for (const char of segment) out += this.#replacement(char) ?? char;
    }
    return out;
  }

  #replacement(chunk: string): string | undefined {
    if (this.#known.has(chunk)) return this.#known.get(chunk);
    if (this.#known.size > MOST_REMEMBERED) this.#known.clear();
    const found = this.#lookUp(Buffer.from(chunk));
    this.#known.set(chunk, found);
    return found;
  }

  /** The text for the shortest key that begins `key`, as the reference takes the first. */
  #lookUp(key: Uint8Array): string | undefined {
    const units = this.#units;
    let at = offsetOf(units[0]);
    for (const byte of key) {
      if (byte === 0) return undefined;
      at ^= byte;
      const unit = units[at];
      if (unit === undefined || (unit & 0x800000ff) >>> 0 !== byte) return undefined;
      at ^= offsetOf(unit);
      if ((unit >>> 8) & 1) return this.#textAt((units[at] ?? 0) & 0x7fffffff);
    }
    return undefined;
  }

  #textAt(start: number): string {
    const end = this.#texts.indexOf(0, start);
    return Buffer.from(this.#texts.subarray(start, end < 0 ? undefined : end)).toString('utf8');
  }
}

const MOST_REMEMBERED = 50_000;

const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);
