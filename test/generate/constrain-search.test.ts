/** Searches and guesses that keep to a grammar. */
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { compiledGrammar } from '../../src/generate/constrain/grammar-engine.js';
import type { LanguageModel } from '../../src/generate/language-model.js';
import { loadLanguageModel } from '../../src/generate/load-model.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { writeTinyFolder } from '../helpers/tiny-model.js';

const path = join(temporaryFolder(), 'dense');
const END = 256;
let model: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path);
  model = await loadLanguageModel(path, { contextLength: 512, cacheTokens: 4096 });
});
afterEach(() => expect(model.engine.cache.freeBlocks).toBe(model.engine.cache.blocks));
afterAll(() => model.dispose());

const prompt = [...Buffer.from('The gate decides')];
const parts = ['ab', 'acd', 'b', 'bdd'];
const grammar = `root ::= (${parts.map((p) => `"${p}"`).join(' | ')}){2}`;
/** All texts of the grammar, as tokens, the end token included. */
const texts = [...new Set(parts.flatMap((a) => parts.map((b) => a + b)))].map((t) => [
  ...Buffer.from(t),
  END,
]);

const textOf = (tokens: readonly number[]): string => Buffer.from(tokens.slice(0, -1)).toString();

describe('beams', () => {
  it.each([0, 1, -0.5])(
    'find the best of all texts of a grammar, length penalty %d',
    async (lengthPenalty) => {
      const scores = await model.score(prompt, texts);
      const want = texts
        .map((tokens, i) => ({
          text: textOf(tokens),
          score: (scores[i]?.logprob as number) / tokens.length ** lengthPenalty,
        }))
        .sort((a, b) => b.score - a.score);
      const beams = { beams: 32, returned: 32, lengthPenalty, earlyStopping: 'never' as const };
      const { hypotheses = [], text, json } = await model.generate(prompt, { grammar, beams }).result();
      expect(hypotheses.map((h) => h.text)).toEqual(want.map((w) => w.text));
      for (const [i, { score }] of want.entries()) expect(hypotheses[i]?.score).toBeCloseTo(score, 4);
      expect(text).toBe(want[0]?.text);
      expect(json).toBeUndefined();
    },
  );

  it.each([
    ['few', 3],
    ['in groups', { beams: 6, groups: 3, returned: 6 }],
  ])('%s of them keep to a schema, and the result is its value', async (_, beams) => {
    const jsonSchema = {
      type: 'object',
      properties: {
        kind: { enum: ['router', 'expert'] },
        size: { type: 'integer', minimum: 1, maximum: 99 },
      },
      required: ['kind', 'size'],
      additionalProperties: false,
    };
    const options = { jsonSchema, beams, maxTokens: 120 };
    const { json, text, hypotheses = [] } = await model.generate(prompt, options).result();
    expect(json).toEqual(JSON.parse(text));
    for (const hypothesis of hypotheses)
      if (hypothesis.tokens.at(-1) === END)
        expect(Object.keys(JSON.parse(hypothesis.text))).toEqual(['kind', 'size']);
  });

  it('of one are greedy', async () => {
    const options = { regex: '[a-f0-9]{20}' };
    const greedy = await model.generate(prompt, options).result();
    const { tokens } = await model.generate(prompt, { ...options, beams: 1 }).result();
    expect(tokens).toEqual(greedy.tokens);
  });

  it('have no token where bans and a grammar leave none', async () => {
    const options = { regex: 'a+', suppressTokens: [97] };
    for (const search of [{ beams: 2 }, { contrastive: {} }])
      await expect(model.generate(prompt, { ...options, ...search }).result()).rejects.toMatchObject({
        code: 'ERR_OPTION',
        message: expect.stringMatching(/no token that is allowed/),
      });
  });
});

it('a grammar says the same of a text, whatever it was asked before', async () => {
  const engine = compiledGrammar({ type: 'grammar', source: grammar }, model.tokenizer, 260, [END]);
  const beginnings = [...new Set(texts.flatMap((t) => t.map((_, i) => t.slice(0, i + 1).join())))].map(
    (key) => key.split(',').map(Number),
  );
  const nextOf = (begin: readonly number[]): number[] =>
    [...new Set(texts.filter((t) => begin.every((id, i) => t[i] === id)).map((t) => t[begin.length]))]
      .filter((id) => id !== undefined)
      .sort((a, b) => a - b);
  const some = fc.array(fc.constantFrom([], ...beginnings), { minLength: 1, maxLength: 40 });
  await fc.assert(
    fc.asyncProperty(some, async (asked) => {
      const states = await Promise.all(asked.map((begin) => engine.state(begin)));
      for (const [i, begin] of asked.entries()) {
        const { accepted, mask } = states[i] as (typeof states)[number];
        expect(accepted).toBe(true);
        const allowed = Array.from({ length: 260 }, (_, id) => id).filter(
          (id) => mask && (((mask[id >> 5] as number) >> (id & 31)) & 1) === 1,
        );
        expect(allowed).toEqual(nextOf(begin));
        if (mask === null) expect(begin.at(-1)).toBe(END);
        const wrong = await engine.state([...begin, 0]);
        expect(wrong).toEqual({ accepted: false, mask: null });
      }
    }),
    { seed: 4, numRuns: 30 },
  );
});

it('many long texts of one grammar at once are as alone', async () => {
  const small = await loadLanguageModel(path, { contextLength: 512, cacheTokens: 160 * 96 });
  const jobs = Array.from({ length: 160 }, (_, i) => ({ regex: '[a-z]{30}', temperature: 1, seed: i }));
  const got = await Promise.all(jobs.map((job) => small.generate(prompt, job).result()));
  for (const i of [0, 40, 159]) {
    const { text } = await model.generate(prompt, jobs[i]).result();
    expect(got[i]?.text).toBe(text);
    expect(text).toMatch(/^[a-z]{30}$/);
  }
  await small.dispose();
});
