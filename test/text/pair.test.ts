/** Two texts together, as the tokenizers library (0.23) puts and cuts them ("longest_first"). */
import { describe, expect, it } from 'vitest';
import { Tokenizer } from '../../src/text/tokenizer.js';
import { errorOf } from '../helpers/checkpoint.js';
import { byteTokenizerJson } from '../helpers/tokenizers.js';

const [CLS, SEP] = [256, 257];
const special = (id: string, type_id = 0) => ({ SpecialToken: { id, type_id } });
const text = (id: string, type_id = 0) => ({ Sequence: { id, type_id } });
const named = (id: string, n: number) => ({ id, ids: [n], tokens: [id] });

const PROCESSORS = {
  bert: { type: 'BertProcessing', cls: ['[CLS]', CLS], sep: ['[SEP]', SEP] },
  roberta: { type: 'RobertaProcessing', cls: ['[CLS]', CLS], sep: ['[SEP]', SEP] },
  none: null,
  template: {
    type: 'TemplateProcessing',
    single: [special('[CLS]'), text('A')],
    pair: [text('B', 2), special('[SEP]', 1), text('A', 1)],
    special_tokens: { '[CLS]': named('[CLS]', CLS), '[SEP]': named('[SEP]', SEP) },
  },
} as const;

const tokenizer = (post_processor: unknown): Tokenizer =>
  Tokenizer.fromFiles({ tokenizerJson: { ...byteTokenizerJson(['[CLS]', '[SEP]']), post_processor } });
const letters = (ids: readonly number[]): string =>
  ids.map((id) => ({ [CLS]: 'C', [SEP]: 'S' })[id] ?? String.fromCharCode(id)).join('');

/** Tokens of each text, tokens at most; ids as letters, segments. Made by the library. */
const REFERENCE: [keyof typeof PROCESSORS, number, number, number | null, string, string][] = [
  ['bert', 3, 2, null, 'CaaaSbbS', '00000111'],
  ['bert', 0, 2, null, 'CSbbS', '00111'],
  ['bert', 5, 5, 9, 'CaaaSbbbS', '000001111'],
  ['bert', 9, 2, 8, 'CaaaSbbS', '00000111'],
  ['bert', 2, 9, 8, 'CaaSbbbS', '00001111'],
  ['bert', 9, 8, 10, 'CaaaaSbbbS', '0000001111'],
  ['bert', 8, 9, 11, 'CaaaaSbbbbS', '00000011111'],
  ['bert', 1, 9, 4, 'CSbS', '0011'],
  ['bert', 9, 9, 3, 'CSS', '001'],
  ['bert', 7, 7, 10, 'CaaaSbbbbS', '0000011111'],
  ['roberta', 3, 2, null, 'CaaaSSbbS', '000000000'],
  ['roberta', 0, 2, null, 'CSSbbS', '000000'],
  ['roberta', 5, 5, 9, 'CaaSSbbbS', '000000000'],
  ['roberta', 9, 2, 8, 'CaaSSbbS', '00000000'],
  ['roberta', 2, 9, 8, 'CaaSSbbS', '00000000'],
  ['roberta', 9, 8, 10, 'CaaaSSbbbS', '0000000000'],
  ['roberta', 8, 9, 11, 'CaaaSSbbbbS', '00000000000'],
  ['roberta', 1, 9, 4, 'CSSS', '0000'],
  ['roberta', 7, 7, 10, 'CaaaSSbbbS', '0000000000'],
  ['none', 3, 2, null, 'aaabb', '00011'],
  ['none', 0, 2, null, 'bb', '11'],
  ['none', 5, 5, 9, 'aaaabbbbb', '000011111'],
  ['none', 9, 2, 8, 'aaaaaabb', '00000011'],
  ['none', 2, 9, 8, 'aabbbbbb', '00111111'],
  ['none', 9, 8, 10, 'aaaaabbbbb', '0000011111'],
  ['none', 8, 9, 11, 'aaaaabbbbbb', '00000111111'],
  ['none', 1, 9, 4, 'abbb', '0111'],
  ['none', 9, 9, 3, 'abb', '011'],
  ['none', 7, 7, 10, 'aaaaabbbbb', '0000011111'],
  ['template', 3, 2, null, 'bbSaaa', '221111'],
  ['template', 0, 2, null, 'bbS', '221'],
  ['template', 5, 5, 9, 'bbbbSaaaa', '222211111'],
  ['template', 9, 2, 8, 'bbSaaaaa', '22111111'],
  ['template', 2, 9, 8, 'bbbbbSaa', '22222111'],
  ['template', 9, 8, 10, 'bbbbSaaaaa', '2222111111'],
  ['template', 8, 9, 11, 'bbbbbSaaaaa', '22222111111'],
  ['template', 1, 9, 4, 'bbSa', '2211'],
  ['template', 9, 9, 3, 'bSa', '211'],
  ['template', 7, 7, 10, 'bbbbbSaaaa', '2222211111'],
];

describe('two texts', () => {
  it.each(REFERENCE)('%s: %d and %d tokens, at most %s', (processor, a, b, maxTokens, ids, types) => {
    const found = tokenizer(PROCESSORS[processor]).encodePair(
      'a'.repeat(a),
      'b'.repeat(b),
      maxTokens === null ? {} : { maxTokens },
    );
    expect([letters(found.ids), found.types.join('')]).toEqual([ids, types]);
  });

  it('take the template of a sequence of processors', () => {
    const processors = [{ type: 'ByteLevel' }, PROCESSORS.bert];
    const { ids } = tokenizer({ type: 'Sequence', processors }).encodePair('a', 'b');
    expect(letters(ids)).toBe('CaSbS');
  });

  it.each<[string, unknown, RegExp]>([
    [
      'two processors that surround',
      { type: 'Sequence', processors: [PROCESSORS.bert, PROCESSORS.bert] },
      /2 post-processors/,
    ],
    ['a template of one text', { ...PROCESSORS.template, pair: [text('A')] }, /1 texts/],
    ['a template of one text twice', { ...PROCESSORS.template, pair: [text('A'), text('A')] }, /2 texts/],
    ['a segment that is none', { ...PROCESSORS.template, pair: [text('A', -1), text('B')] }, /type_id -1/],
    [
      'a token that is none',
      { ...PROCESSORS.template, pair: [special('[X]'), text('A'), text('B')] },
      /\[X\]/,
    ],
  ])('are refused with %s', (_, processor, message) => {
    expect(errorOf(() => tokenizer(processor).encodePair('a', 'b')).message).toMatch(message);
  });

  it('are refused where their special tokens have no room', () => {
    const error = errorOf(() => tokenizer(PROCESSORS.bert).encodePair('a', 'b', { maxTokens: 2 }));
    expect(error).toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(/maxTokens 2.*3 or more/),
    });
  });
});
