import * as library from '@huggingface/tokenizers';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PRE_TOKENIZERS } from '../../src/text/gguf-pre-tokenizers.js';
import {
  type GgufTokenizerMetadata,
  ggufTokenizerFiles,
  tokenizerFromGguf,
} from '../../src/text/gguf-tokenizer.js';
import type { TokenizerJson } from '../../src/text/tokenizer-json.js';

// The library's own types do not resolve under NodeNext.
const { SequencePreTokenizer } = library as unknown as {
  SequencePreTokenizer: new (config: object) => { pre_tokenize(text: string): string[] };
};

/** Metadata from a plain object; keys without a dot stand under `tokenizer.ggml.`. */
function metadata(values: Record<string, unknown>): GgufTokenizerMetadata {
  const get = (key: string) => values[key] ?? values[key.replace(/^tokenizer\.ggml\./, '')];
  const getter = get as unknown as () => never;
  return {
    getString: getter,
    getStringArray: getter,
    getIntArray: getter,
    getFloatArray: getter,
    getInt: getter,
    getBool: getter,
  };
}

const [normal, unknown, control, user, , byte] = [1, 2, 3, 4, 5, 6];

describe('SentencePiece vocabularies', () => {
  const rows: [string, number, number][] = [
    ['<unk>', unknown, 0],
    ['<s>', control, 0],
    ['</s>', control, 0],
    ...Array.from({ length: 256 }, (_, i): [string, number, number] => [
      `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`,
      byte,
      0,
    ]),
    ['▁', normal, -20],
    ['a', normal, -21],
    ['b', normal, -22],
    ['ab', normal, -2],
    ['▁a', normal, -1],
    ['▁ab', normal, -3],
    ['ba', normal, -4],
    ['[tool]', user, 0],
  ];
  const values = {
    model: 'llama',
    tokens: rows.map(([token]) => token),
    token_type: rows.map(([, type]) => type),
    scores: rows.map(([, , score]) => score),
    bos_token_id: 1,
    eos_token_id: 2,
    unknown_token_id: 0,
  };
  const idOf = (token: string) => values.tokens.indexOf(token);
  const ids = (...tokens: string[]) => tokens.map(idOf);
  const tokenizer = tokenizerFromGguf(metadata(values));

  it('merge the best score first and begin with a blank and a beginning-of-text token', () => {
    expect(tokenizer.encode('aab')).toEqual(ids('<s>', '▁a', 'ab'));
    expect(tokenizer.encode('bab', { addSpecialTokens: false })).toEqual(ids('▁', 'b', 'ab'));
    expect(tokenizer.decode(tokenizer.encode('ab ba', { addSpecialTokens: false }))).toBe('ab ba');
    expect(tokenizer).toMatchObject({
      bosId: 1,
      eosId: 2,
      unkId: 0,
      padId: undefined,
      specialIds: [0, 1, 2],
    });
  });

  it('fall back to bytes', () => {
    expect(tokenizer.encode('é', { addSpecialTokens: false })).toEqual(ids('▁', '<0xC3>', '<0xA9>'));
    expect(tokenizer.decode(ids('a', '<0xC3>', '<0xA9>'))).toBe('aé');
  });

  it('know control and user-defined tokens in a text', () => {
    expect(tokenizer.encode('a</s>[tool]', { addSpecialTokens: false })).toEqual(ids('▁a', '</s>', '[tool]'));
    expect(tokenizer.encode('[tool]', { special: 'plain', addSpecialTokens: false })).toEqual(ids('[tool]'));
    expect(tokenizer.decode(ids('▁a', '</s>', '[tool]'), { skipSpecialTokens: true })).toBe('a[tool]');
  });

  it('follow add_space_prefix, add_bos_token and add_eos_token', () => {
    const other = tokenizerFromGguf(
      metadata({ ...values, add_space_prefix: false, add_bos_token: false, add_eos_token: true }),
    );
    expect(other.encode('ab')).toEqual(ids('ab', '</s>'));
    expect(other.decode(ids('▁a'))).toBe(' a');
  });

  it('give the ids of the plain algorithm', () => {
    // Every piece of up to 3 characters has a score, all different; the best pair of neighbours joins until none can.
    const letters = ['a', 'b', 'c'];
    const words = letters.flatMap((x) => [
      x,
      ...letters.flatMap((y) => [x + y, ...letters.map((z) => x + y + z)]),
    ]);
    const scoreOf = (word: string, salt: number) => -(((words.indexOf(word) + 1) * (2 * salt + 1)) % 79);
    const naive = (text: string, salt: number) => {
      const pieces = [...text];
      for (;;) {
        // Of equal scores the pair with the lower ids, then the first.
        const pairs = pieces.slice(1).map((right, at) => ({ at, left: pieces[at], right }));
        const [best] = pairs
          .filter(({ left, right }) => words.includes(left + right))
          .sort(
            (a, b) =>
              scoreOf(b.left + b.right, salt) - scoreOf(a.left + a.right, salt) ||
              words.indexOf(a.left) - words.indexOf(b.left) ||
              words.indexOf(a.right) - words.indexOf(b.right) ||
              a.at - b.at,
          );
        if (best === undefined) return pieces.map((piece) => words.indexOf(piece));
        pieces.splice(best.at, 2, best.left + best.right);
      }
    };
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(...letters), { maxLength: 12 }),
        fc.integer({ min: 0, max: 30 }),
        (chars, salt) => {
          const text = chars.join('');
          const tokenizer = tokenizerFromGguf(
            metadata({
              model: 'llama',
              tokens: words,
              scores: words.map((word) => scoreOf(word, salt)),
              add_space_prefix: false,
            }),
          );
          expect(tokenizer.encode(text)).toEqual(naive(text, salt));
        },
      ),
      { seed: 3, numRuns: 300 },
    );
  });
});

const gpt2 = { model: 'gpt2', tokens: ['a', 'b', 'ab', '<e>'], merges: ['a b'], token_type: [1, 1, 1, 3] };

it('merges that lead out of the vocabulary are passed over, as llama.cpp does', () => {
  const tokenizer = tokenizerFromGguf(metadata({ ...gpt2, merges: ['b a', 'a c', 'a b'] }));
  expect(tokenizer.encode('abba')).toEqual([2, 1, 0]);
});

describe('byte-level vocabularies', () => {
  it('merge by rank and add tokens only when asked', () => {
    const tokenizer = tokenizerFromGguf(metadata({ ...gpt2, pre: 'gpt-2', eos_token_id: 3 }));
    expect(tokenizer.encode('abab<e>a')).toEqual([2, 2, 3, 0]);
    expect(tokenizer).toMatchObject({ eosId: 3, endIds: [3], bosId: undefined, vocabSize: 4 });
    const ends = metadata({ ...gpt2, eos_token_id: 3, eot_token_id: 1, eom_token_id: 3 });
    expect(tokenizerFromGguf(ends).endIds).toEqual([3, 1]);
    const llama3 = tokenizerFromGguf(metadata({ ...gpt2, pre: 'llama-bpe', bos_token_id: 3 }));
    expect(llama3.encode('ab')).toEqual([3, 2]);
  });

  it('keep every token of a vocabulary that repeats one, and names of prototypes', () => {
    const tokens = ['a', 'b', 'a', '__proto__', 'a'];
    const tokenizer = tokenizerFromGguf(metadata({ model: 'gpt2', tokens, merges: [] }));
    expect(tokenizer.vocabSize).toBe(5);
    expect(tokenizer.decode([0, 1, 2, 3, 4])).toBe('aba__proto__a');
    expect(tokenizer.encode('a')).toEqual([0]);
    expect(tokenizer.tokenToId('__proto__')).toBe(3);
    expect(tokenizer.tokenToId('constructor')).toBeUndefined();
  });

  it('bring their chat templates', () => {
    const one = tokenizerFromGguf(metadata({ ...gpt2, 'tokenizer.chat_template': 'A' }));
    expect(one.chatTemplate).toBe('A');
    const two = metadata({
      ...gpt2,
      'tokenizer.chat_template': 'A',
      'tokenizer.chat_templates': ['tool_use'],
      'tokenizer.chat_template.tool_use': 'B',
    });
    expect(tokenizerFromGguf(two).chatTemplate).toEqual([
      { name: 'default', template: 'A' },
      { name: 'tool_use', template: 'B' },
    ]);
  });
});

describe('broken or unknown metadata', () => {
  it.each<[string, Record<string, unknown>, string, RegExp]>([
    ['an unknown model', { ...gpt2, model: 'rwkv' }, 'ERR_UNSUPPORTED', /'rwkv'.*'gpt2'/],
    ['an unknown pre-tokenizer', { ...gpt2, pre: 'nobody' }, 'ERR_UNSUPPORTED', /'nobody'.*llama-bpe.*qwen2/],
    ['no tokens', { ...gpt2, tokens: undefined }, 'ERR_FORMAT', /tokens/],
    ['too few types', { ...gpt2, token_type: [1] }, 'ERR_FORMAT', /token_type.*1 types.*4 tokens/],
    ['no merges', { ...gpt2, merges: undefined }, 'ERR_FORMAT', /merges/],
    ['a merge of one token', { ...gpt2, merges: ['ab'] }, 'ERR_FORMAT', /merges\[0\].*"ab"/],
    ['an id outside', { ...gpt2, eos_token_id: 4 }, 'ERR_FORMAT', /eos_token_id.*got 4.*0 to 3/],
    ['no scores', { ...gpt2, model: 'llama' }, 'ERR_FORMAT', /scores/],
    ['too few scores', { ...gpt2, model: 'llama', scores: [1] }, 'ERR_FORMAT', /1 scores/],
  ])('%s', (_name, values, code, message) => {
    const act = () => tokenizerFromGguf(metadata(values));
    expect(act).toThrow(message);
    expect(act).toThrow(expect.objectContaining({ code }));
  });
});

describe('pre-tokenizers', () => {
  /** The pieces of a text, before they become bytes. */
  const split = (pre: string, text: string): string[] => {
    const json = ggufTokenizerFiles(metadata({ ...gpt2, pre })).tokenizerJson as TokenizerJson;
    const { pretokenizers } = json.pre_tokenizer as { pretokenizers: object[] };
    const Sequence = SequencePreTokenizer as unknown as new (
      config: object,
    ) => {
      pre_tokenize(text: string): string[];
    };
    return new Sequence({ pretokenizers: pretokenizers.slice(0, -1) }).pre_tokenize(text);
  };

  it.each([...PRE_TOKENIZERS.keys()])('%s keeps every character', (pre) => {
    const text =
      'The  naïve café\n\n  cost 12345.67 €? I\'LL\tsay: "東京タワー, ok!" №Ⅷ ٣٤ 🚀\r\nдом HelloWorld ';
    expect(split(pre, text).join('')).toBe(text);
    expect(split(pre, text).length).toBeGreaterThan(10);
  });

  it.each<[string, string, string[]]>([
    ['gpt-2', "I'm  12345!", ['I', "'m", ' ', ' 12345', '!']],
    ['gpt-2', "I'M ok", ['I', "'", 'M', ' ok']],
    ['smollm', 'a 123', ['a', ' ', '1', '2', '3']],
    ['refact', 'v2', ['v', '2']],
    ['llama-bpe', "I'M 12345!\n\n x", ['I', "'M", ' ', '123', '45', '!\n\n', ' x']],
    ['llama-bpe', 'a\n  b(c', ['a', '\n', ' ', ' b', '(c']],
    ['qwen2', 'a 123', ['a', ' ', '1', '2', '3']],
    ['glm4', '1234', ['123', '4']],
    ['gpt-4o', "HelloWorld's", ['Hello', "World's"]],
    ['gpt-4o', 'a/\n/b 1234', ['a', '/\n/', 'b', ' ', '123', '4']],
    ['tekken', "Hi's 12", ['Hi', "'s", ' ', '1', '2']],
    ['deepseek-llm', 'ab cd, 12\n東京!', ['ab', ' cd', ',', ' ', '1', '2', '\n', '東京', '!']],
    ['deepseek-llm', 'x  ', ['x', '  ']],
    ['deepseek-coder', 'a_b 12', ['a', '_', 'b', ' ', '1', '2']],
    ['deepseek-v3', 'x1234 東京ok (ab', ['x', '123', '4', ' ', '東京', 'ok', ' (', 'ab']],
    ['deepseek-v3', 'a.b', ['a', '.b']],
    ['default', 'a, 12345', ['a', ',', ' ', '123', '45']],
    ['falcon', 'a 12345', ['a', ' ', '123', '45']],
    ['bloom', 'one two, three', ['one', ' two', ',', ' three']],
    ['bailingmoe', "it's 12", ['it', "'s", ' ', '1', '2']],
  ])('%s: %j', (pre, text, pieces) => {
    expect(split(pre, text)).toEqual(pieces);
  });
});
