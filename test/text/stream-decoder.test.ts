import { Tokenizer as Library } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeChains } from '../../src/text/decode-stages.js';
import { StreamDecoder } from '../../src/text/stream-decoder.js';
import type { Tokenizer } from '../../src/text/tokenizer.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { byteTokenizer, readJson, tokenizerFolders } from '../helpers/tokenizers.js';

const folders = tokenizerFolders(fixturesFolder);

interface LibraryTokenizer {
  decode(ids: number[], options: { skip_special_tokens: boolean }): string;
}
const LibraryClass = Library as unknown as new (json: object, config: object) => LibraryTokenizer;

function stream(tokenizer: Tokenizer, ids: readonly number[], skipSpecialTokens: boolean): string[] {
  const decoder = new StreamDecoder(tokenizer, { skipSpecialTokens });
  return [...ids.map((id) => decoder.push(id)), decoder.flush()];
}

const loneSurrogate = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;

describe.skipIf(fixturesFolder === undefined)('StreamDecoder', () => {
  it.each(folders)('$name: pieces join to the text of all ids', ({ load, path }) => {
    const tokenizer = load();
    // The library is an oracle of its own where it is known to be right.
    const json = path.endsWith('.gguf') ? undefined : readJson(path);
    const oracle =
      json?.decoder?.type === 'ByteLevel'
        ? new LibraryClass(json, { clean_up_tokenization_spaces: false })
        : undefined;
    const id = fc.integer({ min: 0, max: tokenizer.vocabSize - 1 });
    fc.assert(
      fc.property(fc.array(id, { maxLength: 40 }), fc.boolean(), (ids, skip) => {
        const pieces = stream(tokenizer, ids, skip);
        expect(pieces.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens: skip }));
        expect(pieces.some((piece) => loneSurrogate.test(piece))).toBe(false);
        if (oracle !== undefined && ids.length > 0) {
          expect(pieces.join('')).toBe(oracle.decode(ids, { skip_special_tokens: skip }));
        }
      }),
      { seed: 2, numRuns: 100 },
    );
  });

  it.each(folders)('$name: a text comes back in whole characters', ({ load }) => {
    const tokenizer = load();
    const text = 'naïve 🚀🙂 東京 e\u0301';
    const ids = tokenizer.encode(text, { addSpecialTokens: false });
    for (const piece of stream(tokenizer, ids, true)) {
      // An unknown character may be U+FFFD in no tokenizer here, so a half one would be the only source.
      expect(piece).not.toContain('\ufffd');
      expect(loneSurrogate.test(piece)).toBe(false);
    }
  });
});

describe('byte-level streams', () => {
  it('hold a character back until it is whole, and no longer', () => {
    const tokenizer = byteTokenizer(['<s>']);
    const decoder = new StreamDecoder(tokenizer);
    const pieces = [...Buffer.from('é🚀a')].map((byte) => decoder.push(byte));
    expect(pieces).toEqual(['', 'é', '', '', '', '🚀', 'a']);
    expect(decoder.flush()).toBe('');
    // A special token ends a character that stays incomplete; so does the end.
    expect([0xc3, 256, 0xe2, 0x82].map((id) => decoder.push(id))).toEqual(['', '\ufffd<s>', '', '']);
    expect(decoder.flush()).toBe('\ufffd');
    expect(decoder.push(97)).toBe('a');
  });

  it('keep U+FEFF', () => {
    const tokenizer = byteTokenizer();
    expect(tokenizer.decode([0xef, 0xbb, 0xbf, 97])).toBe('\ufeffa');
  });
});

describe('decoder stages', () => {
  const chain = (decoder: unknown, tokens: string[], cleanUp = false) => {
    const run = decodeChains(decoder, { cleanUp, whole: (all) => `whole:${all.join('|')}` })();
    return [...tokens.map((text) => run.push({ text, added: false })), run.end()];
  };
  const replace = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
  const llama = {
    type: 'Sequence',
    decoders: [
      replace,
      { type: 'ByteFallback' },
      { type: 'Fuse' },
      { type: 'Strip', content: ' ', start: 1, stop: 0 },
    ],
  };
  it.each<[string, unknown, string[], string[]]>([
    ['SentencePiece drops the first blank only', llama, ['▁a', '▁b'], ['a', ' b', '']],
    ['SentencePiece: a lone blank first', llama, ['▁', '▁b'], ['', ' b', '']],
    ['bytes join to a character', llama, ['a', '<0xC3>', '<0xA9>', 'b'], ['a', '', '', 'éb', '']],
    [
      'an invalid run is one U+FFFD per byte',
      llama,
      ['<0xC3>', '<0x41>', 'b'],
      ['', '', '\ufffd\ufffdb', ''],
    ],
    ['an unfinished run', llama, ['a', '<0xE2>', '<0x82>'], ['a', '', '', '\ufffd\ufffd']],
    ['no decoder: words', null, ['a', 'b'], ['a', ' b', '']],
    [
      'Metaspace',
      { type: 'Metaspace', replacement: '▁', prepend_scheme: 'always' },
      ['▁a', '▁b▁c'],
      ['a', ' b c', ''],
    ],
    [
      'Metaspace that prepends nothing',
      { type: 'Metaspace', replacement: '▁', prepend_scheme: 'never' },
      ['▁a'],
      [' a', ''],
    ],
    [
      'WordPiece',
      { type: 'WordPiece', prefix: '##', cleanup: true },
      ['un', '##able', '.'],
      ['un', 'able', '.', ''],
    ],
    ['suffixes', { type: 'BPEDecoder', suffix: '</w>' }, ['a', 'b</w>', 'c</w>'], ['', 'a', 'b ', 'c']],
    [
      'Strip before Fuse works on every token, also at the end',
      { type: 'Strip', content: '_', start: 1, stop: 2 },
      ['__a___', '_'],
      ['_a_', '', ''],
    ],
    [
      'Strip after Fuse holds back what may be the end',
      { type: 'Sequence', decoders: [{ type: 'Fuse' }, { type: 'Strip', content: '_', start: 2, stop: 1 }] },
      ['_', '__a_', '_b_'],
      ['', '_a', '__b', ''],
    ],
    [
      'Replace after Fuse sees matches over borders',
      {
        type: 'Sequence',
        decoders: [{ type: 'Fuse' }, { type: 'Replace', pattern: { String: 'aab' }, content: 'X' }],
      },
      ['a', 'a', 'a', 'b', 'a'],
      ['', '', 'a', 'X', '', 'a'],
    ],
    ['an unknown decoder decodes at the end', { type: 'CTC' }, ['a', 'b'], ['', '', 'whole:a|b']],
  ])('%s', (_name, decoder, tokens, pieces) => {
    expect(chain(decoder, tokens)).toEqual(pieces);
  });

  it('cleans up over the borders of tokens', () => {
    const tokens = ['it', ' ', "'s", ' .', ' ', "n't", ' x'];
    const fuse = { type: 'Fuse' };
    expect(chain(fuse, tokens, true).join('')).toBe("it's.n't x");
  });
});
