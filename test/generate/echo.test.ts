/** The prompt in the result: as `logprobs` sees it, whatever way the text goes on. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateOptions, GenerationResult } from '../../src/generate/generation.js';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { drafters } from '../../src/generate/speculate/drafters.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { writeTinyFolder } from '../helpers/tiny-model.js';

const path = join(temporaryFolder(), 'sparse');
let model: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path, { nExperts: 4, eosId: null });
  model = await loadLanguageModel(path, { contextLength: 512, cacheTokens: 4096 });
});
afterAll(async () => {
  expect(model.engine.cache.freeBlocks).toBe(model.engine.cache.blocks);
  await model.dispose();
});

const text = 'The gate decides what each token meets, and the experts answer. '.repeat(3);
const prompt = [...Buffer.from(text)];
const untimed = ({ timings: _, ...rest }: GenerationResult): object => rest;
const expected = async (tokens: readonly number[], top?: number) => {
  const scored = tokens.length < 2 ? [] : await model.logprobs(tokens, { top: top ?? 0 });
  const alternatives = [null, ...scored.map((t) => ({ rank: t.rank, top: t.top }))];
  return {
    text: Buffer.from(tokens).toString(),
    tokens,
    logprobs: [null, ...scored.map(({ logprob }) => logprob)],
    ...(top === undefined ? {} : { alternatives }),
  };
};

describe('echo', () => {
  it.each<[string, GenerateOptions]>([
    ['plain', {}],
    ['drawn', { temperature: 1, seed: 2 }],
    ['with alternatives', { topLogprobs: 2 }],
    ['without an answer', { maxTokens: 0 }],
    ['beams', { beams: 3 }],
    ['contrastive search', { contrastive: {} }],
    ['guesses', { speculation: drafters.ngram() }],
    ['a grammar', { regex: '[a-c]{30}', stopTokens: [256] }],
    ['its routing', { routing: true }],
  ])('%s', async (_, options) => {
    for (const length of [1, 2, 65, prompt.length]) {
      const given = prompt.slice(0, length);
      const run = { maxTokens: 8, ...options };
      const want = untimed(await model.generate(given, run).result());
      const got = untimed(await model.generate(given, { ...run, echo: true }).result());
      expect(got).toEqual({ ...want, prompt: await expected(given, options.topLogprobs) });
    }
  });

  it('in a batch, and with several answers', async () => {
    const prompts = [prompt.slice(0, 5), prompt, prompt.slice(0, 40)];
    const batch = await model.generateAll(prompts, { maxTokens: 4, echo: true });
    for (const [i, { prompt: echoed }] of batch.entries())
      expect(echoed).toEqual(await expected(prompts[i] as number[]));
    for (const maxTokens of [0, 6]) {
      const options = { n: 3, temperature: 1, seed: 5, maxTokens };
      const want = await model.generateMany(prompt, options);
      const echoed = await expected(prompt);
      const got = await model.generateMany(prompt, { ...options, echo: true });
      expect(got).toEqual(want.map((answer) => ({ ...answer, prompt: echoed })));
    }
  });

  it('can be aborted', async () => {
    const options = { echo: true, maxTokens: 0, signal: AbortSignal.abort() };
    await expect(model.generate(prompt, options).result()).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  it.each<[GenerateOptions, RegExp]>([
    [{ echo: 'yes' as never }, /echo yes/],
    [{ echo: true, prefixLength: 4 }, /echo together with prefixLength/],
  ])('%j is refused', async (options, message) => {
    const run = async () => model.generate(prompt, options).result();
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(message),
    });
  });
});
