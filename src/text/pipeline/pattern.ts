import * as library from '@huggingface/tokenizers';
import { mismatch } from '../../core/errors.js';
import { asPatternsSee } from './unicode.js';

/** `{String}` or `{Regex}` of a tokenizer.json, ready to be looked for. */
export interface Pattern {
  /** Every match as [start, end), in order, without overlap. */
  matches(text: string): [number, number][];
}

// The library translates Oniguruma's dialect to JavaScript's; its types do not resolve under NodeNext.
const { SplitPreTokenizer } = library as unknown as {
  SplitPreTokenizer: new (config: object) => { pattern: RegExp | null };
};

/** Throws ERR_UNSUPPORTED for an expression that JavaScript has no words for, ERR_FORMAT for what is no pattern. */
export function compilePattern(where: string, config: unknown): Pattern {
  const { String: literal, Regex: source } = (config ?? {}) as { String?: unknown; Regex?: unknown };
  if (typeof literal === 'string') return { matches: (text) => matchesOfString(text, literal) };
  if (typeof source !== 'string') {
    throw mismatch('ERR_FORMAT', where, `pattern ${JSON.stringify(config)}`, '{String} or {Regex}');
  }
  let regex: RegExp | null;
  try {
    ({ pattern: regex } = new SplitPreTokenizer({ pattern: { Regex: source }, invert: false }));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw mismatch('ERR_UNSUPPORTED', where, reason, 'a pattern this version can run', { cause });
  }
  return patternOfRegExp(regex!, /\(\?[a-z]*i/.test(source));
}

/** @param regex with the flags g and u */
export function patternOfRegExp(regex: RegExp, ignoreCase = false): Pattern {
  return {
    matches(text) {
      const seen = asPatternsSee(text, ignoreCase);
      const found: [number, number][] = [];
      regex.lastIndex = 0;
      for (let match = regex.exec(seen); match !== null; match = regex.exec(seen)) {
        const end = match.index + match[0].length;
        found.push([match.index, end]);
        if (end === match.index) regex.lastIndex = nextIndex(seen, end);
      }
      return found;
    },
  };
}

const nextIndex = (text: string, at: number): number => at + ((text.codePointAt(at) ?? 0) > 0xffff ? 2 : 1);

function matchesOfString(text: string, wanted: string): [number, number][] {
  const found: [number, number][] = [];
  if (wanted === '') return found;
  for (let at = text.indexOf(wanted); at >= 0; at = text.indexOf(wanted, at + wanted.length)) {
    found.push([at, at + wanted.length]);
  }
  return found;
}

/** `text` with `content` in the place of every match. */
export function replaceAll(text: string, pattern: Pattern, content: string): string {
  let out = '';
  let from = 0;
  for (const [start, end] of pattern.matches(text)) {
    out += text.slice(from, start) + content;
    from = end;
  }
  return from === 0 ? out + text : out + text.slice(from);
}

/** What becomes of the separators that a splitter finds. */
export type Behavior = 'removed' | 'isolated' | 'mergedwithprevious' | 'mergedwithnext' | 'contiguous';

const BEHAVIORS: readonly string[] = [
  'removed',
  'isolated',
  'mergedwithprevious',
  'mergedwithnext',
  'contiguous',
];

/** A behaviour as files spell it: 'MergedWithPrevious', 'merged_with_previous'. */
export function behaviorOf(where: string, config: { behavior?: unknown }): Behavior {
  const name = String(config.behavior ?? 'isolated');
  const plain = name.toLowerCase().replaceAll('_', '');
  if (BEHAVIORS.includes(plain)) return plain as Behavior;
  throw mismatch('ERR_UNSUPPORTED', where, `behavior '${name}'`, `one of ${BEHAVIORS.join(', ')}`);
}

interface Span {
  start: number;
  end: number;
  match: boolean;
}

/** The pieces of a text, cut at the matches of a pattern; `invert` makes the text between matches the separators. */
export function splitText(text: string, pattern: Pattern, behavior: Behavior, invert = false): string[] {
  const matches = pattern.matches(text);
  if (behavior === 'isolated') return isolated(text, matches);
  const spans = spansOf(text, matches, invert);
  const pieces: string[] = [];
  for (const { start, end } of behave(spans, behavior)) if (end > start) pieces.push(text.slice(start, end));
  return pieces;
}

function isolated(text: string, matches: [number, number][]): string[] {
  const pieces: string[] = [];
  let at = 0;
  for (const [start, end] of matches) {
    if (at !== start) pieces.push(text.slice(at, start));
    if (end !== start) pieces.push(text.slice(start, end));
    at = end;
  }
  if (at !== text.length) pieces.push(text.slice(at));
  return pieces;
}

function spansOf(text: string, matches: [number, number][], invert: boolean): Span[] {
  const spans: Span[] = [];
  let at = 0;
  for (const [start, end] of matches) {
    if (at !== start) spans.push({ start: at, end: start, match: invert });
    spans.push({ start, end, match: !invert });
    at = end;
  }
  if (at !== text.length) spans.push({ start: at, end: text.length, match: invert });
  return spans;
}

function behave(spans: Span[], behavior: Exclude<Behavior, 'isolated'>): Span[] {
  if (behavior === 'removed') return spans.filter(({ match }) => !match);
  const backwards = behavior === 'mergedwithnext';
  const joined: Span[] = [];
  let afterMatch = false;
  for (const span of backwards ? spans.toReversed() : spans) {
    const last = joined.at(-1);
    const joins = behavior === 'contiguous' ? span.match === afterMatch : span.match && !afterMatch;
    if (joins && last !== undefined) {
      if (backwards) last.start = span.start;
      else last.end = span.end;
    } else joined.push({ ...span });
    afterMatch = span.match;
  }
  return backwards ? joined.reverse() : joined;
}
