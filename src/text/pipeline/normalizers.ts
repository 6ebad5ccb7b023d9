import { mismatch } from '../../core/errors.js';
import { bytesToChars } from './byte-chars.js';
import { CharacterMap } from './charsmap.js';
import { compilePattern, replaceAll } from './pattern.js';
import { ACCENT, BERT_ACCENT, BERT_REMOVED, lowerCase, normalizeAs } from './unicode.js';

/** Text to the text that is cut into tokens. */
export type Normalizer = (text: string) => string;

type Config = Record<string, unknown>;

const SPACE = '\\p{White_Space}';
const everySpace = new RegExp(SPACE, 'gu');
const spaceAtStart = new RegExp(`^${SPACE}+`, 'u');
const spaceAtEnd = new RegExp(`${SPACE}+$`, 'u');
/** The blocks BERT calls Chinese; the gap at 2B820 is the reference's. */
const CHINESE =
  /[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u{20000}-\u{2a6df}\u{2a700}-\u{2b81f}\u{2b920}-\u{2ceaf}\u{2f800}-\u{2fa1f}]/gu;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is removed.
const NMT_REMOVED = /[\x01-\x08\x0b\x0e-\x1f\x7f\x8f\x9f]/g;
const NMT_SPACES = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;

/** The `normalizer` of a tokenizer.json. Throws ERR_UNSUPPORTED for an unknown one, ERR_FORMAT for a broken one. */
export function makeNormalizer(config: unknown): Normalizer | undefined {
  if (config === null || config === undefined) return undefined;
  const options = config as Config;
  const where = `tokenizer.json: normalizer ${String(options.type)}`;
  switch (options.type) {
    case 'Sequence': {
      const steps = listOf(where, options.normalizers).map(makeNormalizer);
      return (text) => steps.reduce((done, step) => step?.(done) ?? done, text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = options.type;
      return (text) => normalizeAs(text, form);
    }
    case 'Lowercase':
      return lowerCase;
    case 'Strip': {
      const left = options.strip_left !== false;
      const right = options.strip_right !== false;
      return (text) => {
        const rest = left ? text.replace(spaceAtStart, '') : text;
        return right ? rest.replace(spaceAtEnd, '') : rest;
      };
    }
    case 'StripAccents':
      return (text) => text.replace(ACCENT, '');
    case 'Nmt':
      return (text) => text.replace(NMT_REMOVED, '').replace(NMT_SPACES, ' ');
    case 'Prepend': {
      const prefix = String(options.prepend ?? '');
      return (text) => (text === '' ? '' : prefix + text);
    }
    case 'Replace': {
      const pattern = compilePattern(where, options.pattern);
      const content = String(options.content ?? '');
      return (text) => replaceAll(text, pattern, content);
    }
    case 'ByteLevel':
      return bytesToChars;
    case 'Precompiled':
      return precompiled(where, options.precompiled_charsmap);
    case 'BertNormalizer':
      return bert(options);
    default:
      throw mismatch('ERR_UNSUPPORTED', where, `'${String(options.type)}'`, 'a known normaliser');
  }
}

function listOf(where: string, list: unknown): unknown[] {
  if (Array.isArray(list)) return list;
  throw mismatch('ERR_FORMAT', where, typeof list, 'a list of normalisers');
}

function precompiled(where: string, map: unknown): Normalizer | undefined {
  if (map === null || map === undefined || map === '') return undefined;
  if (typeof map !== 'string') throw mismatch('ERR_FORMAT', where, typeof map, 'a base64 text');
  const characters = new CharacterMap(Buffer.from(map, 'base64'));
  return (text) => characters.normalize(text);
}

function bert(options: Config): Normalizer {
  const clean = options.clean_text !== false;
  const chinese = options.handle_chinese_chars !== false;
  const lower = options.lowercase !== false;
  const strip = (options.strip_accents ?? lower) === true;
  return (text) => {
    let out = text;
    if (clean) out = out.replace(BERT_REMOVED, '').replace(everySpace, ' ');
    if (chinese) out = out.replace(CHINESE, ' $& ');
    if (strip) out = normalizeAs(out, 'NFD').replace(BERT_ACCENT, '');
    return lower ? lowerCase(out) : out;
  };
}
