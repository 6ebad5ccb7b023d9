import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { readGguf } from '../../src/checkpoint/gguf.js';
import { tokenizerFromGguf } from '../../src/text/gguf-tokenizer.js';
import { Tokenizer } from '../../src/text/tokenizer.js';
import { walkFiles } from './fixtures.js';

export const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'));

const optional = (path: string) => (existsSync(path) ? readJson(path) : undefined);

/** Every folder below `folder` with a tokenizer (tokenizer.json, or one in a .gguf), and how to load it. */
export function tokenizerFolders(folder: string | undefined) {
  return walkFiles(folder, (name) => name === 'tokenizer.json' || name.endsWith('.gguf')).map((path) => {
    const inside = dirname(path);
    return {
      name: relative(folder!, inside) || '.',
      path,
      expected: optional(join(inside, 'expected.json')),
      load: () =>
        path.endsWith('.gguf') ? tokenizerFromGguf(readGguf(path).metadata) : tokenizerOfFolder(inside),
    };
  });
}

/** The tokenizer of a Hugging Face folder. */
export function tokenizerOfFolder(folder: string): Tokenizer {
  return Tokenizer.fromFiles({
    tokenizerJson: readJson(join(folder, 'tokenizer.json')),
    tokenizerConfig: optional(join(folder, 'tokenizer_config.json')),
    specialTokensMap: optional(join(folder, 'special_tokens_map.json')),
  });
}

/** tokenizer.json of a byte-level tokenizer of single bytes and the given special tokens. */
export function byteTokenizerJson(special: readonly string[]) {
  const vocab: Record<string, number> = {};
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    vocab[String.fromCharCode(printable ? byte : next++)] = byte;
  }
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
  return {
    model: { type: 'BPE', vocab, merges: [] },
    added_tokens: special.map((content, i) => ({ id: 256 + i, content, special: true })),
    pre_tokenizer: byteLevel,
    decoder: byteLevel,
  };
}

/** A byte-level tokenizer for tests that need no real vocabulary. */
export const byteTokenizer = (special: readonly string[] = []): Tokenizer =>
  Tokenizer.fromFiles({ tokenizerJson: byteTokenizerJson(special) });
