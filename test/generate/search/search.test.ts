// Several answers to one prompt, and what is made of them: the best by a scorer, the one that most agree on.
import { describe, expect, it } from 'vitest';
import { tensor } from '../../../src/core/tensor.js';
import type { BatchResult } from '../../../src/generate/batch.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { samplers } from '../../../src/generate/samplers/index.js';
import { bestOf } from '../../../src/generate/search/best-of.js';
import { type Scorer, scorers } from '../../../src/generate/search/scorers.js';
import { countVotes, vote } from '../../../src/generate/search/vote.js';
import { abortAtStep } from '../../helpers/abort-at-step.js';
import { sharedTinyModel } from '../../helpers/shared-model.js';

let model: LanguageModel;
const path = sharedTinyModel((loaded) => {
  model = loaded;
});

const prompt = [...Buffer.from('The gate decides what each token meets. Q: how many experts? A:')];
const options = { maxTokens: 10, temperature: 1, seed: 5 };
const answerOf = (text: string, logprobs: readonly number[] = [-1]): BatchResult => ({
  text,
  tokens: logprobs.map((_, i) => i),
  logprobs,
  finishReason: 'stop',
});
const saying = (...texts: string[]): BatchResult[] => texts.map((text) => answerOf(text));

describe('several answers', () => {
  it('are those of their seeds, and share the prompt', async () => {
    model.engine.cache.pool.clear();
    const before = model.scheduler.statistics.fedTokens;
    const answers = await model.generateMany(prompt, { ...options, n: 6 });
    expect(model.scheduler.statistics.fedTokens - before).toBe(prompt.length - 1 + 6 * 10);
    for (const [i, answer] of answers.entries()) {
      const { tokens, logprobs } = await model
        .generate(prompt, { ...options, seed: 5 + i, cacheSalt: null })
        .result();
      expect({ tokens: answer.tokens, logprobs: answer.logprobs }).toEqual({ tokens, logprobs });
    }
    expect(new Set(answers.map((a) => a.text)).size).toBeGreaterThan(1);
  });

  it('may begin with one token, and come of a sampler', async () => {
    const sampler = samplers.sample({ temperature: 1, seed: 2 ** 32 - 1 });
    const answers = await model.generateMany([65], { n: 2, maxTokens: 4, sampler });
    for (const [i, seed] of [2 ** 32 - 1, 0].entries()) {
      const { tokens } = await model.generate([65], { maxTokens: 4, temperature: 1, seed }).result();
      expect(answers[i]?.tokens).toEqual(tokens);
    }
  });

  it('find room in a small cache', async () => {
    const small = await loadLanguageModel(path, { contextLength: 256, cacheTokens: 5 * 32 });
    const many = { ...options, maxTokens: 60, n: 6 };
    const want = await model.generateMany(prompt, many);
    expect(await small.generateMany(prompt, many)).toEqual(want);
    expect(small.engine.cache.freeBlocks).toBe(small.engine.cache.blocks);
    await small.dispose();
  });

  it('can be aborted, before and meanwhile', async () => {
    const refused = { code: 'ERR_ABORTED' };
    const many = { ...options, maxTokens: 150, n: 4 };
    await expect(model.generateMany(prompt, { ...many, signal: AbortSignal.abort() })).rejects.toMatchObject(
      refused,
    );
    const run = model.generateMany(prompt, { ...many, signal: abortAtStep(model, 5) });
    await expect(run).rejects.toMatchObject(refused);
  });

  it.each([
    [{ n: 0 }, /n 0/],
    [{ n: 1.5 }, /n 1.5/],
    [{ n: 1025 }, /n 1025.*1024/],
    [{ n: 2, beams: 2 }, /'beams'/],
    [{ n: 2, maxTokens: -1 }, /maxTokens -1/],
    [{}, /n undefined/],
  ])('%j are refused', async (bad, message) => {
    await expect(model.generateMany(prompt, bad as never)).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(message),
    });
  });
});

describe('the best of several', () => {
  it('by their own log-probability is the likeliest', async () => {
    const { answers, ...best } = await bestOf(model, prompt, { ...options, n: 8 });
    const means = answers.map(({ logprobs }) => logprobs.reduce((a, b) => a + b) / logprobs.length);
    expect(answers.map((a) => a.score)).toEqual(means);
    expect(means).toEqual([...means].sort((a, b) => b - a));
    expect(best).toEqual(answers[0]);
  });

  it('by a function, which sees all at once; the first of equals', async () => {
    const seen: number[] = [];
    const scorer: Scorer = async (answers) => {
      seen.push(answers.length);
      return answers.map((_, i) => [1, 7, 7, 2][i] as number);
    };
    const drawn = await model.generateMany(prompt, { ...options, n: 4 });
    const { text, score, answers } = await bestOf(model, prompt, { ...options, n: 4, scorer });
    expect([text, score, seen]).toEqual([drawn[1]?.text, 7, [4]]);
    expect(answers.map((a) => a.text)).toEqual([1, 2, 3, 0].map((i) => drawn[i]?.text));
  });

  it.each([
    ['too few scores', () => [1]],
    ['NaN', () => [1, Number.NaN]],
    ['a text', () => ['1', 2] as never],
  ])('refuses a scorer that gives %s', async (_, scorer) => {
    await expect(bestOf(model, prompt, { ...options, n: 2, scorer })).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(/for 2 answers/),
    });
  });
});

describe('scorers', () => {
  it.each([
    [true, [-2, -1]],
    [false, [-4, -3]],
  ])('own log-probability, mean %s', async (mean, want) => {
    const answers = [answerOf('a', [-1, -3]), answerOf('b', [-1, -1, -1])];
    expect(await scorers.ownLogprob({ mean })(answers)).toEqual(want);
  });

  it('an outcome model reads what it is given', async () => {
    const scorer = scorers.outcome(
      (texts) => texts.map((t) => t.length),
      ({ text }) => `Q: ${text}`,
    );
    expect(await scorer(saying('a', 'bcd'))).toEqual([4, 6]);
  });

  // The score of a beginning is 1 / its steps, so that each reduction tells itself.
  it.each([
    ['min', [1 / 3, 1, 0.5]],
    ['product', [1 / 6, 1, 0.5]],
    ['last', [1 / 3, 1, 0.5]],
    ['mean', [(1 + 1 / 2 + 1 / 3) / 3, 1, 0.75]],
  ] as const)('a step model, %s', async (reduce, want) => {
    const read: string[] = [];
    const scorer = scorers.steps(
      (texts) => {
        read.push(...texts);
        return texts.map((t) => 1 / t.split('\n').length);
      },
      { reduce },
    );
    const scores = await scorer(saying('a\nb\n\nc', '', 'd\n e'));
    for (const [i, w] of want.entries()) expect(scores[i]).toBeCloseTo(w, 12);
    expect(read).toEqual(['a', 'a\nb', 'a\nb\nc', '', 'd', 'd\n e']);
  });

  it('a step model with steps of its own, and too few scores', async () => {
    const scorer = scorers.steps((texts) => texts.map((t) => t.length), {
      split: /\. /,
      reduce: 'last',
      textOf: (parts) => parts.join('|'),
    });
    expect(await scorer(saying('ab. cd. e'))).toEqual([7]);
    await expect(scorers.steps(() => [1])(saying('a\nb'))).rejects.toThrow(/1 scores, expected 2/);
    expect(() => scorers.steps(() => [], { reduce: 'sum' as never })).toThrow(/reduce 'sum'/);
  });

  it("a classifier's probability of a class", async () => {
    const seen: unknown[] = [];
    const classifier = (logits: number[][]) => ({
      tokenizer: { encode: (text: string) => [...Buffer.from(text)] },
      forward: async (inputs: unknown) => {
        seen.push(inputs);
        return {
          logits: tensor(Float32Array.from(logits.flat()), [logits.length, logits[0]?.length as number]),
        };
      },
    });
    const two = scorers.classProbability(
      classifier([
        [0, Math.log(3)],
        [1, 1],
      ]),
      1,
    );
    const [a, b] = await two(['ab', 'c']);
    expect(a).toBeCloseTo(0.75, 6);
    expect(b).toBeCloseTo(0.5, 6);
    expect(seen[0]).toEqual({
      inputIds: [
        [97, 98],
        [99, 0],
      ],
      attentionMask: [
        [1, 1],
        [1, 0],
      ],
    });
    const one = scorers.classProbability(classifier([[Math.log(4)]]), 0);
    expect((await one(['x']))[0]).toBeCloseTo(0.8, 6);
    await expect(scorers.classProbability(classifier([[0, 1]]), 2)(['x'])).rejects.toThrow(/label 2/);
  });

  it("a language model's probability of a token", async () => {
    const scorer = scorers.tokenProbability(model, 'Y');
    const texts = ['Is it? ', 'Is it so? '];
    const got = await scorer(texts);
    for (const [i, text] of texts.entries()) {
      const { logits } = await model.forward({ inputIds: [model.tokenizer.encode(text)] });
      const row = ((await logits.data()) as Float32Array).slice(-model.config.vocabSize);
      const sum = row.reduce((s, v) => s + Math.exp(v), 0);
      expect(got[i]).toBeCloseTo(Math.exp(row[89] as number) / sum, 6);
    }
    expect(() => scorers.tokenProbability(model, 'Yes')).toThrow(/'Yes', 3 tokens/);
  });
});

describe('a vote', () => {
  const texts = saying('2 + 3 = 5', 'is 6', 'it is  5 ', 'no idea', '6, no: 5.', 'surely 6');
  const number = /\d+/;

  it('goes to what most texts say last', () => {
    const { answer, votes, abstained } = countVotes(texts, number);
    expect(answer).toBe('5');
    expect(votes.map((v) => [v.answer, v.weight, v.share])).toEqual([
      ['5', 3, 0.6],
      ['6', 2, 0.4],
    ]);
    expect(votes[0]?.texts).toEqual([texts[0], texts[2], texts[4]]);
    expect(abstained).toEqual([texts[3]]);
  });

  it.each<[string, RegExp | ((t: string) => string | null), string | null]>([
    ['the first group', /(\d) \+/, '2'],
    ['a whole match, global already', /\d/g, '5'],
    ['a function', (t) => (t.includes('surely') ? 'sure' : null), 'sure'],
    ['nothing', /never/, null],
  ])('by %s', (_, extract, want) => expect(countVotes(texts, extract).answer).toBe(want));

  it('may weigh, join what is the same, and among equals takes what came first', () => {
    expect(countVotes(texts, number, { weights: [1, 5, 1, 100, 1, 1] }).answer).toBe('6');
    expect(countVotes(texts, number, { weights: [1, -50, 0, 0, 0, 0] }).votes[1]).toMatchObject({
      answer: '6',
      weight: 0,
    });
    expect(countVotes(texts, number, { normalize: () => 'x' }).votes).toHaveLength(1);
    expect(countVotes(saying('8', '9', '9', '8'), number).answer).toBe('8');
  });

  it('of a model counts what it says several times', async () => {
    const many = { ...options, n: 12 };
    const drawn = await model.generateMany(prompt, many);
    const extract = (text: string): string => String(text.length % 3);
    const weight: Scorer = (answers) => answers.map((_, i) => i);
    expect(await vote(model, prompt, { ...many, extract })).toEqual(countVotes(drawn, extract));
    expect(await vote(model, prompt, { ...many, extract, weight })).toEqual(
      countVotes(drawn, extract, { weights: drawn.map((_, i) => i) }),
    );
  });

  it('is refused without a way to find answers', async () => {
    await expect(vote(model, prompt, { ...options, n: 2, extract: 'x' as never })).rejects.toThrow(
      /extract x/,
    );
    await expect(vote(model, prompt, { ...options, n: 2, pattern: /x/ } as never)).rejects.toThrow(
      /'pattern'/,
    );
  });
});
