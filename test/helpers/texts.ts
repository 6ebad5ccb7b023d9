import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Tokenizer } from '../../src/text/tokenizer.js';

/** What scripts/reference/token_ids.py computes for some texts. */
export interface Hashes {
  count: number;
  ids: string;
  texts: string;
}

interface Source {
  scripts: Record<string, string>;
  texts: string[];
  words: string[];
  marks: string[];
  blanks: string[];
  emoji: string[];
}

export const sourcePath = fileURLToPath(new URL('../fixtures/tokenizers/texts.json', import.meta.url));
const source: Source = JSON.parse(readFileSync(sourcePath, 'utf8'));

/** Every script, and texts that tokenizers stumble over. */
export const chosenTexts: readonly string[] = [...source.texts, ...Object.values(source.scripts)];

/** Random Unicode strings; the same as `random_strings` of scripts/reference/token_ids.py. */
export function randomTexts(count: number, seed: number): string[] {
  const next = mulberry32(seed);
  const below = (n: number) => Math.floor((next() * n) / 2 ** 32);
  const scalar = (limit: number) => {
    const code = below(limit - 0x800);
    return String.fromCodePoint(code >= 0xd800 ? code + 0x800 : code);
  };
  const limits = [0x110000, 0x10000, 0x3000];
  const lists = [source.words, source.marks, source.blanks, source.emoji];
  const texts: string[] = [];
  for (let i = 0; i < count; i++) {
    const kind = i % 8;
    const length = 1 + below(40);
    let text = '';
    for (let j = 0; j < length; j++) {
      const list = kind === 7 ? lists[below(4)] : lists[kind - 3];
      text += kind < 3 ? scalar(limits[kind]) : list[below(list.length)];
    }
    texts.push(text);
  }
  return texts;
}

function mulberry32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
}

/** The hashes of `hashes` in scripts/reference/token_ids.py. */
export function hashesOf(tokenizer: Tokenizer, texts: readonly string[]): Hashes {
  const ids = texts.map((text) => tokenizer.encode(text, { addSpecialTokens: false }));
  const decoded = ids.map((row) => tokenizer.decode(row));
  return {
    count: ids.reduce((sum, row) => sum + row.length, 0),
    ids: hash(ids.map((row) => row.join(','))),
    texts: hash(decoded.map((text) => `${Buffer.byteLength(text)}:${text}`)),
  };
}

const hash = (lines: readonly string[]): string =>
  createHash('sha256').update(lines.join('\n')).digest('hex').slice(0, 16);
