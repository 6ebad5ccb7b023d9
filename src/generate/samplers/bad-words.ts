import { SwitchyardError } from '../../core/errors.js';
import { wordOf } from './chain-batch.js';
import { checkTokens, inRange, type Processor, type SequenceContext, tokenList } from './processor.js';
import { Sampler } from './sampler.js';

/** Tokens, or a text: then what it is encoded to, at the start of a text and behind a space. */
export type TokenSequence = string | readonly number[];

/** Sequences that must not occur: their last token is banned where the text ends in all before it. */
export function badWords(words: readonly TokenSequence[]): Sampler {
  if (!Array.isArray(words))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[sampler] got badWords ${String(words)}, expected an array of sequences`,
    );
  return sequences(
    'badWords',
    words.map((word) => [word, -Infinity] as const),
  );
}

/** Adds a number to the score of the last token of each sequence where the text ends in all before it. */
export function sequenceBias(biases: readonly (readonly [TokenSequence, number])[]): Sampler {
  if (!Array.isArray(biases) || biases.some((pair) => !Array.isArray(pair) || pair.length !== 2))
    throw new SwitchyardError(
      'ERR_OPTION',
      '[sampler] got sequenceBias that is no list, expected pairs of a sequence and a number',
    );
  return sequences(
    'sequenceBias',
    biases.map(([word, bias]) => [
      word,
      bias === -Infinity ? bias : inRange('sequenceBias', bias, { from: -1e6, to: 1e6 }),
    ]),
  );
}

function sequences(name: string, given: readonly (readonly [TokenSequence, number])[]): Sampler {
  for (const [word] of given) {
    if (word.length === 0)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[sampler] got an empty sequence in ${name}, expected at least one token`,
      );
    if (typeof word !== 'string') tokenList(`${name} sequence`, word);
  }
  const processor: Processor = {
    name,
    readsHistory: true,
    start(context) {
      const words: number[] = [];
      for (const [word, bias] of given) {
        for (const ids of encodings(name, word, context)) {
          checkTokens(ids, context);
          words.push(ids.length, wordOf(bias), ...ids);
        }
      }
      const list = Int32Array.from(words);
      return {
        write(chain) {
          if (list.length > 0) chain.begin('sequenceBias').list(list).end();
        },
      };
    },
  };
  return Sampler.of(processor);
}

function encodings(
  name: string,
  word: TokenSequence,
  { tokenizer }: SequenceContext,
): readonly (readonly number[])[] {
  if (typeof word !== 'string') return [word];
  if (!tokenizer)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[sampler] got the text '${word}' in ${name} and no tokenizer, expected token ids`,
    );
  const encode = (text: string): readonly number[] => tokenizer.encode(text, { addSpecialTokens: false });
  const forms = [encode(word), encode(` ${word}`)].filter((ids) => ids.length > 0);
  return [...new Map(forms.map((ids) => [ids.join(), ids])).values()];
}
