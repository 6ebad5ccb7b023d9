import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { makeNormalizer } from '../../src/text/pipeline/normalizers.js';
import { makePreTokenizer } from '../../src/text/pipeline/pre-tokenizers.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { pythonHas, runPython } from '../helpers/python.js';
import { chosenTexts, type Hashes, hashesOf, randomTexts } from '../helpers/texts.js';
import { readJson, tokenizerOfFolder } from '../helpers/tokenizers.js';

const script = 'scripts/reference/token_ids.py';
const hasTokenizers = pythonHas(['tokenizers'], 'comparison with the tokenizers library');

describe.skipIf(!hasTokenizers)('the tokenizers library', () => {
  const folder = mkdtempSync(join(tmpdir(), 'switchyard-tokenizers-'));
  afterAll(() => rmSync(folder, { recursive: true }));

  it.skipIf(fixturesFolder === undefined)('still gives the stored hashes', { timeout: 120_000 }, () => {
    const out = join(folder, 'expected.json');
    runPython(script, ['fixtures', fixturesFolder!, out]);
    const stored = readJson(join(import.meta.dirname, '../fixtures/tokenizers/expected.json'));
    expect(readJson(out).folders).toEqual(stored.folders);
  });

  it('gives the same ids and texts with rarer options', { timeout: 180_000 }, () => {
    runPython(script, ['odd', folder]);
    const expected: Record<string, { texts: Hashes; random: Hashes[] }> = readJson(
      join(folder, 'expected.json'),
    );
    expect(Object.keys(expected).length).toBeGreaterThan(40);
    const random = randomTexts(2000, 1);
    const differing: string[] = [];
    for (const [name, { texts, random: blocks }] of Object.entries(expected)) {
      const tokenizer = tokenizerOfFolder(join(folder, name));
      const got = [chosenTexts, ...blocks.map((_, i) => random.slice(500 * i, 500 * (i + 1)))].map((part) =>
        hashesOf(tokenizer, part),
      );
      if (JSON.stringify(got) !== JSON.stringify([texts, ...blocks])) differing.push(name);
    }
    expect(differing).toEqual([]);
  });

  it('classes every code point in the same way', { timeout: 180_000 }, () => {
    const reference = JSON.parse(runPython(script, ['unicode']));
    const bert = { clean_text: false, handle_chinese_chars: false, strip_accents: false, lowercase: false };
    const normalizers: [string, object, string][] = [
      ...['NFC', 'NFD', 'NFKC', 'NFKD'].map((type): [string, object, string] => [
        `normalized.${type}`,
        { type },
        '',
      ]),
      ['ordered', { type: 'NFC' }, 'q\u0301?\u0334'],
      ['lower', { type: 'Lowercase' }, ''],
      ['accents', { type: 'StripAccents' }, ''],
      ['bertAccents', { type: 'BertNormalizer', ...bert, strip_accents: true }, 'q?'],
      ['bertClean', { type: 'BertNormalizer', ...bert, clean_text: true }, ''],
    ];
    for (const [path, config, around] of normalizers) {
      const want = path.split('.').reduce((value, key) => value[key], reference) as Record<number, string>;
      const normalize = makeNormalizer(config)!;
      expect(
        differingCodes((code, char) => {
          const text = around === '' ? char : around.replace('?', () => char);
          return normalize(text) === (want[code] ?? text);
        }),
        path,
      ).toEqual([]);
    }
    const splitters: [string, object][] = [
      ['bertPunctuation', { type: 'BertPreTokenizer' }],
      ['letters', { type: 'Split', pattern: { Regex: '(?!a|b)\\p{L}' } }],
      ['numbers', { type: 'Split', pattern: { Regex: '\\p{N}' } }],
      ['marks', { type: 'Split', pattern: { Regex: '\\p{M}' } }],
      ['small', { type: 'Split', pattern: { Regex: '(?!a|b)\\p{Ll}' } }],
      ['signs', { type: 'Split', pattern: { Regex: '[\\p{S}\\p{P}]' } }],
    ];
    for (const [name, config] of splitters) {
      const want = new Set<number>(reference[name]);
      const split = makePreTokenizer(config)!;
      expect(
        differingCodes((code, char) => (split(`a${char}b`, true).length === 3) === want.has(code)),
        name,
      ).toEqual([]);
    }
  });
});

/** Code points for which `same` is false, in hexadecimal. */
function differingCodes(same: (code: number, char: string) => boolean): string[] {
  const differing: string[] = [];
  for (let code = 0; code < 0x110000; code++) {
    if (code === 0xd800) code = 0xe000;
    if (!same(code, String.fromCodePoint(code))) differing.push(code.toString(16));
  }
  return differing;
}
