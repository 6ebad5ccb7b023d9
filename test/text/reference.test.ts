import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
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

describe.skipIf(fixturesFolder === undefined)('ids and decoded texts of the reference', () => {
  const random = randomTexts(expected.count, 1);

  it.each(Object.entries(expected.folders))('%s', (name, { sha256, texts, random: blocks }) => {
    const folder = join(fixturesFolder!, name);
    const digest = createHash('sha256')
      .update(readFileSync(join(folder, 'tokenizer.json')))
      .digest('hex');
    expect(digest, 'another tokenizer: run scripts/reference/token_ids.py fixtures').toBe(sha256);
    const tokenizer = tokenizerOfFolder(folder);
    expect(hashesOf(tokenizer, chosenTexts)).toEqual(texts);
    for (const [i, block] of blocks.entries()) {
      const part = random.slice(i * expected.block, (i + 1) * expected.block);
      expect(hashesOf(tokenizer, part), `strings from ${i * expected.block}`).toEqual(block);
    }
  });
});
