import { mismatch } from '../core/errors.js';

export interface StopResult {
  /** Text that no stop string can claim any more. */
  text: string;
  /** A stop string was found; the text before it has been given out, nothing more will come. */
  stopped: boolean;
  /** The stop string that was found. */
  stop?: string;
}

/**
 * Watches a stream of text for stop strings, and keeps back text that may be the start of one. The match that is complete
 * first wins, of several that end together the longest; the result does not depend on how the text is split.
 * Knuth-Morris-Pratt: a fixed number of steps per character and stop string.
 */
export class StopStrings {
  readonly #patterns: readonly Pattern[];
  #held = '';
  #stop: string | undefined;

  /** Throws ERR_OPTION for an empty stop string, which would match everywhere. */
  constructor(stops: readonly string[]) {
    this.#patterns = stops.map((text) => {
      if (typeof text !== 'string' || text === '') {
        throw mismatch(
          'ERR_OPTION',
          'stop strings',
          JSON.stringify(text),
          'strings of at least one character',
        );
      }
      return { text, failure: failureTable(text), matched: 0 };
    });
  }

  push(text: string): StopResult {
    if (this.#stop !== undefined) return { text: '', stopped: true, stop: this.#stop };
    if (this.#patterns.length === 0) return { text, stopped: false };
    const all = this.#held + text;
    let longest = 0;
    for (let at = this.#held.length; at < all.length; at++) {
      longest = 0;
      let found: Pattern | undefined;
      for (const pattern of this.#patterns) {
        advance(pattern, all[at]);
        if (pattern.matched === pattern.text.length) {
          if (found === undefined || pattern.text.length > found.text.length) found = pattern;
        } else if (pattern.matched > longest) {
          longest = pattern.matched;
        }
      }
      if (found !== undefined) {
        this.#stop = found.text;
        this.#held = '';
        return { text: all.slice(0, at + 1 - found.text.length), stopped: true, stop: found.text };
      }
    }
    if (text === '') return { text: '', stopped: false };
    this.#held = all.slice(all.length - longest);
    return { text: all.slice(0, all.length - longest), stopped: false };
  }

  /** The text still kept back when the stream ends. Everything is as new afterwards. */
  flush(): string {
    const rest = this.#held;
    this.#held = '';
    this.#stop = undefined;
    for (const pattern of this.#patterns) pattern.matched = 0;
    return rest;
  }
}

interface Pattern {
  readonly text: string;
  /** At i: the length of the longest proper start of text[0..i] that is also its end. */
  readonly failure: Int32Array;
  /** How much of the pattern the text so far ends with. */
  matched: number;
}

function failureTable(text: string): Int32Array {
  const failure = new Int32Array(text.length);
  for (let i = 1, length = 0; i < text.length; i++) {
    while (length > 0 && text[i] !== text[length]) length = failure[length - 1];
    if (text[i] === text[length]) length++;
    failure[i] = length;
  }
  return failure;
}

function advance(pattern: Pattern, char: string): void {
  while (pattern.matched > 0 && pattern.text[pattern.matched] !== char) {
    pattern.matched = pattern.failure[pattern.matched - 1];
  }
  if (pattern.text[pattern.matched] === char) pattern.matched++;
}
