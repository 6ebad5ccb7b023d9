import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type GgufTokenizerMetadata, tokenizerFromGguf } from '../../src/text/gguf-tokenizer.js';
import { ggufTokenizerMetadata, type MetadataValue } from '../../src/text/gguf-tokenizer-write.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { chosenTexts, randomTexts } from '../helpers/texts.js';
import { tokenizerOfFolder } from '../helpers/tokenizers.js';

/** Metadata as a file would give it back. */
function reader(values: ReadonlyMap<string, MetadataValue>): GgufTokenizerMetadata {
  const get = (key: string) => values.get(key) as never;
  const numbers = (key: string) =>
    (values.has(key) ? Array.from(values.get(key) as never) : undefined) as never;
  return {
    getString: get,
    getStringArray: get,
    getInt: get,
    getBool: get,
    getIntArray: numbers,
    getFloatArray: numbers,
  };
}

const texts = [...chosenTexts, ...randomTexts(2000, 2)];

describe.skipIf(fixturesFolder === undefined)('a tokenizer as GGUF metadata', () => {
  it.each([
    ['gpt2', 'gpt2', 'gpt-2'],
    ['llama3_rope', 'gpt2', 'dbrx'],
    ['qwen3', 'gpt2', 'qwen2'],
    ['bert_mlm', 'bert', undefined],
  ])('%s: the keys of the format are enough for the same ids', (folder, kind, pre) => {
    const tokenizer = tokenizerOfFolder(join(fixturesFolder!, folder));
    const values = ggufTokenizerMetadata(tokenizer, tokenizer.vocabSize + 3);
    expect(values.get('tokenizer.ggml.model')).toBe(kind);
    expect(values.get('tokenizer.ggml.pre')).toBe(pre);
    const again = tokenizerFromGguf(reader(values));
    expect(again.vocabSize).toBe(tokenizer.vocabSize + 3);
    for (const text of texts) {
      expect(again.encode(text)).toEqual(tokenizer.encode(text));
      const ids = tokenizer.encode(text);
      expect(again.decode(ids, { skipSpecialTokens: true })).toBe(
        tokenizer.decode(ids, { skipSpecialTokens: true }),
      );
    }
    const { bosId, eosId, padId, specialIds } = tokenizer;
    expect(again).toMatchObject({ eosId, padId, ...(kind === 'bert' ? {} : { bosId, specialIds }) });
  });

  it.each(['llama', 't5', 'bart'])('%s: with the tokenizer.json in it the ids are the same', (folder) => {
    const tokenizer = tokenizerOfFolder(join(fixturesFolder!, folder));
    const values = ggufTokenizerMetadata(tokenizer, tokenizer.vocabSize);
    const json = JSON.parse(values.get('tokenizer.huggingface.json') as string);
    const again = tokenizerFromGguf(reader(values), json);
    for (const text of texts) expect(again.encode(text)).toEqual(tokenizer.encode(text));
    // The format has no key for the token that begins a pair of texts.
    const { cls_token: _, ...others } = tokenizer.specialTokens;
    expect(again.specialTokens).toEqual(others);
  });

  it('T5: without it, texts that need no other normaliser have the same ids', () => {
    const tokenizer = tokenizerOfFolder(join(fixturesFolder!, 't5'));
    const values = ggufTokenizerMetadata(tokenizer, tokenizer.vocabSize + 3);
    const again = tokenizerFromGguf(reader(values));
    for (const text of ['The gate decides which expert', 'a b', 'unbelievably-hyphenated!', '<extra_id_0> x'])
      expect(again.encode(text)).toEqual(tokenizer.encode(text));
    expect(again.decode(tokenizer.encode('The gate'), { skipSpecialTokens: true })).toBe('The gate');
  });
});
