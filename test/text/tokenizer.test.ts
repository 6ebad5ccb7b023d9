import { describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../src/core/errors.js';
import { Tokenizer } from '../../src/text/tokenizer.js';
import { fixturesFolder, modelsFolder } from '../helpers/fixtures.js';
import { byteTokenizer, byteTokenizerJson, tokenizerFolders } from '../helpers/tokenizers.js';

interface Case {
  text: string;
  ids: number[];
  ids_with_special: number[];
  decoded: string;
  decoded_with_special: string;
}

const folders = tokenizerFolders(fixturesFolder);
const withCases = folders.filter(({ expected }) => expected?.tokenizer?.cases !== undefined);
const withGreedyText = folders.filter(({ expected }) => expected?.text?.greedy_continuation !== undefined);

describe.skipIf(fixturesFolder === undefined)('tokenizers of the fixtures', () => {
  it('finds them', () => {
    expect(withCases.length).toBeGreaterThan(0);
    expect(withCases.some(({ path }) => path.endsWith('.gguf'))).toBe(true);
  });

  it.each(withCases)('$name: ids and texts of its cases', ({ load, expected }) => {
    const tokenizer = load();
    for (const { text, ids, ids_with_special, decoded, decoded_with_special } of expected.tokenizer
      .cases as Case[]) {
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids);
      expect(tokenizer.encode(text)).toEqual(ids_with_special);
      expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe(decoded);
      expect(tokenizer.decode(ids_with_special)).toBe(decoded_with_special);
    }
  });

  it.each(withGreedyText)('$name: text of its greedy continuation', ({ load, expected }) => {
    const tokenizer = load();
    const { prompt, prompt_ids, greedy_continuation } = expected.text;
    expect(tokenizer.encode(prompt)).toEqual(prompt_ids);
    const [sequence] = expected.greedy[0].sequences;
    const continuation = sequence.slice(expected.inputs.single.input_ids[0].length);
    expect(tokenizer.decode(continuation, { skipSpecialTokens: true })).toBe(greedy_continuation);
  });
});

describe.skipIf(modelsFolder === undefined)('tokenizers of real models', () => {
  it.each(tokenizerFolders(modelsFolder))('$path', ({ load, expected }) => {
    const tokenizer = load();
    for (const { text, ids } of expected.texts) {
      expect(tokenizer.encode(text)).toEqual(ids);
      expect(tokenizer.decode(ids)).toBe(text);
    }
    for (const { prompt, ids, greedy_ids, greedy_text } of expected.completions) {
      expect(tokenizer.encode(prompt)).toEqual(ids);
      expect(tokenizer.decode(greedy_ids)).toBe(greedy_text);
    }
  });
});

describe('special tokens', () => {
  const tokenizer = byteTokenizer(['<s>', '<|end|>']);

  it('are parsed, or kept as text', () => {
    const text = 'a<|end|>b<s>';
    expect(tokenizer.encode(text)).toEqual([97, 257, 98, 256]);
    const plain = tokenizer.encode(text, { special: 'plain' });
    expect(plain).toEqual([...Buffer.from(text)]);
    expect(tokenizer.decode(plain)).toBe(text);
    expect(tokenizer.specialIds).toEqual([256, 257]);
    expect(tokenizer.decode([97, 257, 98], { skipSpecialTokens: true })).toBe('ab');
  });

  it('are parsed beside marked ones that are not', () => {
    expect(tokenizer.encodeMarked('<s><\ufdd0s>\ufdd0', '\ufdd0')).toEqual([256, 60, 115, 62]);
    // Another mark in the next call.
    expect(tokenizer.encodeMarked('<\ufdd1s><s>', '\ufdd1')).toEqual([60, 115, 62, 256]);
  });

  it('are never made by the model from plain text', () => {
    // The whole text is one word here, and merging leads to '</s>'; a unigram vocabulary holds it as a piece.
    const merging = Tokenizer.fromFiles({
      tokenizerJson: {
        model: {
          type: 'BPE',
          vocab: { '<': 0, '/': 1, s: 2, '>': 3, '</': 4, 's>': 5, '</s>': 6 },
          merges: ['< /', 's >', '</ s>'],
        },
        added_tokens: [{ id: 6, content: '</s>', special: true }],
      },
    });
    const unigram = Tokenizer.fromFiles({
      tokenizerJson: {
        model: {
          type: 'Unigram',
          unk_id: 7,
          vocab: [...'</s>']
            .map((char) => [char, -5])
            .concat([
              ['</', -9],
              ['s>', -9],
              ['</s>', 0],
              ['<unk>', 0],
            ]),
        },
        added_tokens: [
          { id: 6, content: '</s>', special: true },
          { id: 7, content: '<unk>', special: true },
        ],
      },
    });
    for (const tokenizer of [merging, unigram]) {
      expect(tokenizer.encode('</s>')).toEqual([6]);
      expect(tokenizer.encode('</s>', { special: 'plain' })).toEqual([0, 1, 2, 3]);
    }
    // What the unigram model does not know is still unknown.
    expect(unigram.encode('x', { special: 'plain' })).toEqual([7]);
  });

  it('keeps added tokens that are not special in plain text', () => {
    const tokenizer = Tokenizer.fromFiles({
      tokenizerJson: {
        model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: [] },
        added_tokens: [{ id: 2, content: 'ab', special: false }],
      },
    });
    expect(tokenizer.encode('aab', { special: 'plain' })).toEqual([0, 2]);
  });

  it('come from tokenizer_config.json and special_tokens_map.json', () => {
    const tokenizer = Tokenizer.fromFiles({
      tokenizerJson: {
        model: { type: 'BPE', vocab: { '<s>': 0, '</s>': 1, '<pad>': 2, x: 3 }, merges: [] },
      },
      tokenizerConfig: { eos_token: { content: '</s>' }, bos_token: null, chat_template: 'hello' },
      specialTokensMap: { bos_token: '<s>', eos_token: 'x', pad_token: '<pad>' },
    });
    expect(tokenizer).toMatchObject({ bosId: 0, eosId: 1, padId: 2, unkId: undefined, vocabSize: 4 });
    expect(tokenizer.chatTemplate).toBe('hello');
    expect(tokenizer.specialTokens).toEqual({ bos_token: '<s>', eos_token: '</s>', pad_token: '<pad>' });
    expect(tokenizer.decode([0, 3, 1], { skipSpecialTokens: true })).toBe('x');
  });
});

describe('ids', () => {
  const tokenizer = byteTokenizer(['<s>']);

  it('map to tokens and back', () => {
    expect(tokenizer.vocabSize).toBe(257);
    expect(tokenizer.idToToken(256)).toBe('<s>');
    expect(tokenizer.tokenToId('<s>')).toBe(256);
    expect(tokenizer.tokenToId('nothing')).toBeUndefined();
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.encode('')).toEqual([]);
  });

  it.each([-1, 257, 1.5, Number.NaN, '3', undefined])('%s is refused', (id) => {
    const bad = id as number;
    for (const act of [() => tokenizer.decode([97, bad]), () => tokenizer.idToToken(bad)]) {
      expect(act).toThrow(SwitchyardError);
      expect(act).toThrow(/token id .*expected an integer from 0 to 256/);
    }
  });

  it('without a token decode to nothing', () => {
    const gaps = Tokenizer.fromFiles({
      tokenizerJson: { model: { type: 'BPE', vocab: { a: 0, b: 2 }, merges: [] } },
    });
    expect(gaps.vocabSize).toBe(3);
    expect(gaps.decode([0, 1, 2])).toBe('a b');
  });
});

describe('broken or unknown files', () => {
  const model = { type: 'BPE', vocab: { a: 0 }, merges: [] };
  it.each<[string, unknown, string, RegExp]>([
    ['no object', 'x', 'ERR_FORMAT', /tokenizer\.json.*got string/],
    ['no model', {}, 'ERR_FORMAT', /model/],
    ['an unknown model', { model: { type: 'Magic', vocab: {} } }, 'ERR_UNSUPPORTED', /'Magic'/],
    ['an id that is no id', { model: { ...model, vocab: { a: -1 } } }, 'ERR_FORMAT', /'a'.*-1/],
    ['a huge id', { model: { ...model, vocab: { a: 2 ** 31 } } }, 'ERR_FORMAT', /2147483648/],
    ['merges that are no list', { model: { ...model, merges: 'ab' } }, 'ERR_FORMAT', /merges/],
    ['an empty added token', { model, added_tokens: [{ id: 1, content: '' }] }, 'ERR_FORMAT', /added_tokens/],
    [
      'a stray added token',
      { model, added_tokens: [{ id: 'x', content: 'b' }] },
      'ERR_FORMAT',
      /added_tokens/,
    ],
    ['an unknown normaliser', { model, normalizer: { type: 'Rot13' } }, 'ERR_UNSUPPORTED', /Rot13/],
    ['an unknown pre-tokenizer', { model, pre_tokenizer: { type: 'Rot13' } }, 'ERR_UNSUPPORTED', /Rot13/],
    [
      'an unknown splitting behaviour',
      { model, pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'Sideways' } },
      'ERR_UNSUPPORTED',
      /Sideways/,
    ],
    [
      'a pattern that is none',
      { model, pre_tokenizer: { type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated' } },
      'ERR_UNSUPPORTED',
      /tokenizer\.json/,
    ],
    ['unigram rows without scores', { model: { type: 'Unigram', vocab: [['a']] } }, 'ERR_FORMAT', /score/],
  ])('%s', (_name, tokenizerJson, code, message) => {
    const act = () => Tokenizer.fromFiles({ tokenizerJson });
    expect(act).toThrow(message);
    expect(act).toThrow(expect.objectContaining({ code }));
  });

  it('refuses unknown options', () => {
    const tokenizer = byteTokenizer();
    expect(() => tokenizer.encode('a', { add_special_tokens: true } as object)).toThrow(/addSpecialTokens/);
    expect(() => tokenizer.encode('a', { special: 'maybe' } as object)).toThrow(/'maybe'/);
    expect(() => tokenizer.encode(7 as unknown as string)).toThrow(/expected a string/);
  });
});

describe('splitting behaviours', () => {
  const pieces = (behavior: string, text: string) => {
    const vocab = Object.fromEntries(['a', 'b', '-'].map((char, i) => [char, i]));
    const joined = ['a-', '-b', '--', 'b-', '-a', 'a--', '--b', 'aa'];
    for (const piece of joined) vocab[piece] = Object.keys(vocab).length;
    // ignore_merges makes a token of every piece that is one, so the ids show the pieces.
    const tokenizer = Tokenizer.fromFiles({
      tokenizerJson: {
        model: { type: 'BPE', vocab, merges: [], ignore_merges: true },
        pre_tokenizer: { type: 'Split', pattern: { String: '-' }, behavior, invert: false },
      },
    });
    return tokenizer.encode(text).map((id) => tokenizer.idToToken(id));
  };
  it.each([
    ['Isolated', ['a', '-', '-', 'b']],
    ['Removed', ['a', 'b']],
    ['MergedWithPrevious', ['a-', '-', 'b']],
    ['MergedWithNext', ['a', '-', '-b']],
    ['Contiguous', ['a', '--', 'b']],
  ])('%s', (behavior, expected) => {
    expect(pieces(behavior, 'a--b')).toEqual(expected);
  });
});

describe('added tokens', () => {
  /** The tokens of a text, joined by '·'; 'x' is found in the text as it came, or once that has been made small. */
  const cut = (options: object, text: string) => {
    const vocab = Object.fromEntries([...'abxz ._é'].map((char, i) => [char, i]));
    const tokenizer = Tokenizer.fromFiles({
      tokenizerJson: {
        model: { type: 'BPE', vocab, merges: [] },
        added_tokens: [{ id: 20, content: 'X', special: false, normalized: false, ...options }],
        normalizer: { type: 'Lowercase' },
        decoder: { type: 'Fuse' },
      },
    });
    const ids = tokenizer.encode(text);
    return { cut: ids.map((id) => tokenizer.idToToken(id)).join('·'), text: tokenizer.decode(ids) };
  };
  it.each<[object, string, string]>([
    [{}, 'aXb x', 'a·X·b· ·x'],
    [{ lstrip: true }, 'a  X b', 'a·X· ·b'],
    [{ rstrip: true }, 'a X \u3000b', 'a· ·X·b'],
    [{ lstrip: true, rstrip: true }, ' X X ', 'X·X'],
    [{ single_word: true }, 'aX X. Xb _X X', 'a·x· ·X·.· ·x·b· ·_·x· ·X'],
    [{ single_word: true }, 'éX', 'é·x'],
    [{ normalized: true }, 'aX x', 'a·X· ·X'],
  ])('%j: %j', (options, text, expected) => {
    expect(cut(options, text).cut).toBe(expected);
  });

  it('that are found in normalised text decode to normalised text', () => {
    expect(cut({ normalized: true }, 'aX').text).toBe('ax');
    expect(cut({ normalized: false }, 'aX').text).toBe('aX');
  });

  it('the longest one counts', () => {
    const tokenizer = byteTokenizer(['<s', '<s>', '<s>>x']);
    expect(tokenizer.encode('<s><s')).toEqual([257, 256]);
    expect(tokenizer.encode('<s>>')).toEqual([257, 62]);
  });
});

describe('surroundings', () => {
  const ids = (post_processor: object) =>
    Tokenizer.fromFiles({ tokenizerJson: { ...byteTokenizerJson(['<a>', '<b>']), post_processor } }).encode(
      'x',
    );
  const template = (single: object[], special_tokens = {}) => ({
    type: 'TemplateProcessing',
    single,
    special_tokens,
  });
  const text = { Sequence: { id: 'A', type_id: 0 } };
  const token = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  it.each<[string, object, number[]]>([
    ['none', { type: 'ByteLevel' }, [120]],
    ['BERT', { type: 'BertProcessing', cls: ['<a>', 256], sep: ['<b>', 257] }, [256, 120, 257]],
    ['a template', template([token('<b>'), text, token('<a>')]), [257, 120, 256]],
    [
      'a token of several ids',
      template([token('y'), text], { y: { id: 'y', ids: [1, 2], tokens: ['', ''] } }),
      [1, 2, 120],
    ],
    [
      'one after another',
      { type: 'Sequence', processors: [template([text, token('<a>')]), template([token('<b>'), text])] },
      [257, 120, 256],
    ],
  ])('%s', (_name, processor, expected) => {
    expect(ids(processor)).toEqual(expected);
  });

  it.each<[string, object, RegExp]>([
    ['an unknown kind', { type: 'Rot13' }, /'Rot13'/],
    ['an unknown token', template([token('<c>'), text]), /'<c>'/],
    ['two texts', template([text, text]), /2 texts/],
  ])('refuse %s', (_name, processor, message) => {
    expect(() => ids(processor)).toThrow(message);
  });
});

describe('long texts', () => {
  it('of one word merge as short ones do', () => {
    // 'abab…' of any length: merging looks through all pairs for few symbols and keeps a heap for many.
    const tokenizer = Tokenizer.fromFiles({
      tokenizerJson: {
        model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2, abab: 3, ba: 4 }, merges: ['a b', 'ab ab', 'b a'] },
      },
    });
    for (const pairs of [1, 2, 3, 7, 8, 9, 200, 5001]) {
      const expected = [...new Array(pairs >> 1).fill(3), ...(pairs % 2 === 1 ? [2] : [])];
      expect(tokenizer.encode('ab'.repeat(pairs))).toEqual(expected);
      expect(tokenizer.encode(`b${'ab'.repeat(pairs)}`)).toEqual([1, ...expected]);
    }
  });
});
