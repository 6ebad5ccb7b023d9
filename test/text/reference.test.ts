import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { fixturesFolder } from '../helpers/fixtures.js';
import { chosenTexts, type Hashes, hashesOf, randomTexts } from '../helpers/texts.js';
import { readJson, tokenizerOfFolder } from '../helpers/tokenizers.js';

interface Expected {
  count: number;
  block: number;
  folders: Record<string, { sha256: string; texts: Hashes; random: Hashes[] }>;
}

const path = fileURLToPath(new URL('../fixtures/tokenizers/expected.json', import.meta.url));
const expected: Expected = readJson(path);

const digestOf = (path: string): string | undefined =>
  existsSync(path) ? createHash('sha256').update(readFileSync(path)).digest('hex') : undefined;

describe.skipIf(fixturesFolder === undefined)('ids and decoded texts of the reference', () => {
  const random = randomTexts(expected.count, 1);
  // other fixtures may lack a folder or hold another tokenizer in it: what they share with the reference is compared
  const same = Object.entries(expected.folders).filter(
    ([name, { sha256 }]) => digestOf(join(fixturesFolder ?? '', name, 'tokenizer.json')) === sha256,
  );

  it('has tokenizers of the fixtures', () =>
    expect(same.length, 'other tokenizers: run scripts/reference/token_ids.py fixtures').toBeGreaterThan(0));

  it.each(same)('%s', (name, { texts, random: blocks }) => {
    const tokenizer = tokenizerOfFolder(join(fixturesFolder!, name));
    expect(hashesOf(tokenizer, chosenTexts)).toEqual(texts);
    for (const [i, block] of blocks.entries()) {
      const part = random.slice(i * expected.block, (i + 1) * expected.block);
      expect(hashesOf(tokenizer, part), `strings from ${i * expected.block}`).toEqual(block);
    }
  });
});
