import { mismatch } from '../../core/errors.js';
import { bytesToChars } from './byte-chars.js';
import {
  type Behavior,
  behaviorOf,
  compilePattern,
  type Pattern,
  patternOfRegExp,
  splitText,
} from './pattern.js';
import { BERT_PUNCTUATION } from './unicode.js';

/** Cuts a text into the pieces that the model sees; `atStart`: the text begins where the whole input begins. */
export type PreTokenizer = (text: string, atStart: boolean) => string[];

type Config = Record<string, unknown>;

/** Splitters of the reference that are no part of its patterns know the newest Unicode; so does JavaScript. */
const unmasked = (regex: RegExp): Pattern => ({
  matches: (text) =>
    Array.from(text.matchAll(regex), ({ index, 0: match }): [number, number] => [
      index,
      index + match.length,
    ]),
});

const SPACE = unmasked(/\p{White_Space}/gu);
const WORDS = patternOfRegExp(
  /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]+|[^\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}\p{White_Space}]+/gu,
);
const DIGIT = unmasked(/\p{N}/gu);
const PUNCTUATION = unmasked(BERT_PUNCTUATION);
/** GPT-2's words. */
const GPT2 = patternOfRegExp(
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu,
);

/** The `pre_tokenizer` of a tokenizer.json. Throws ERR_UNSUPPORTED for an unknown one. */
export function makePreTokenizer(config: unknown): PreTokenizer | undefined {
  if (config === null || config === undefined) return undefined;
  const options = config as Config;
  const where = `tokenizer.json: ${String(options.type)}`;
  const cut = (pattern: Pattern, behavior: Behavior, invert = false): PreTokenizer => {
    return (text) => splitText(text, pattern, behavior, invert);
  };
  switch (options.type) {
    case 'Sequence':
      return sequence(where, options.pretokenizers);
    case 'ByteLevel':
      return byteLevel(options.add_prefix_space === true, options.use_regex !== false);
    case 'Metaspace':
      return metaspace(options);
    case 'Split':
      return cut(compilePattern(where, options.pattern), behaviorOf(where, options), options.invert === true);
    case 'BertPreTokenizer':
      return (text) =>
        splitText(text, SPACE, 'removed').flatMap((word) => splitText(word, PUNCTUATION, 'isolated'));
    case 'Whitespace':
      return cut(WORDS, 'removed', true);
    case 'WhitespaceSplit':
      return cut(SPACE, 'removed');
    case 'Punctuation':
      return cut(PUNCTUATION, behaviorOf(where, options));
    case 'Digits':
      return cut(DIGIT, options.individual_digits === true ? 'isolated' : 'contiguous');
    case 'CharDelimiterSplit':
      return cut(compilePattern(where, { String: options.delimiter }), 'removed');
    case 'FixedLength':
      return fixedLength(where, options.length ?? 5);
    default:
      throw mismatch('ERR_UNSUPPORTED', where, `'${String(options.type)}'`, 'a known pre-tokenizer');
  }
}

function sequence(where: string, list: unknown): PreTokenizer {
  if (!Array.isArray(list)) throw mismatch('ERR_FORMAT', where, typeof list, 'a list of pre-tokenizers');
  const steps = list.map(makePreTokenizer);
  return (text, atStart) => {
    let pieces = [text];
    let first = atStart;
    for (const step of steps) {
      if (step === undefined) continue;
      const [before] = pieces;
      pieces = pieces.flatMap((piece, i) => step(piece, first && i === 0));
      // A step that drops what lies before its first piece leaves no piece at the start.
      first &&= pieces.length > 0 && before.startsWith(pieces[0]);
    }
    return pieces;
  };
}

function byteLevel(addSpace: boolean, useRegex: boolean): PreTokenizer {
  return (text) => {
    const spaced = addSpace && !text.startsWith(' ') ? ` ${text}` : text;
    const words = useRegex ? splitText(spaced, GPT2, 'isolated') : [spaced];
    return words.map(bytesToChars);
  };
}

function metaspace(options: Config): PreTokenizer {
  const mark = String(options.replacement ?? '▁');
  // Older files say `add_prefix_space`.
  const scheme = options.prepend_scheme ?? (options.add_prefix_space === false ? 'never' : 'always');
  const pattern = compilePattern('tokenizer.json: Metaspace', { String: mark });
  const split = options.split !== false;
  return (text, atStart) => {
    const marked = text.replaceAll(' ', () => mark);
    const prepends = scheme === 'always' || (scheme === 'first' && atStart);
    const whole = prepends && !marked.startsWith(mark) ? mark + marked : marked;
    return split ? splitText(whole, pattern, 'mergedwithnext') : [whole];
  };
}

function fixedLength(where: string, length: unknown): PreTokenizer {
  if (!Number.isInteger(length) || (length as number) < 1) {
    throw mismatch('ERR_FORMAT', where, `length ${String(length)}`, 'a whole number ≥ 1');
  }
  return (text) => {
    const chars = Array.from(text);
    const pieces: string[] = [];
    for (let at = 0; at < chars.length; at += length as number) {
      pieces.push(chars.slice(at, at + (length as number)).join(''));
    }
    return pieces;
  };
}
