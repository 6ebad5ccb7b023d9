import { describe, expect, it } from 'vitest';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import type { ContrastiveOptions } from '../../../src/generate/search/contrastive.js';
import { sharedTinyModel } from '../../helpers/shared-model.js';

let model: LanguageModel;
const path = sharedTinyModel((loaded) => {
  model = loaded;
});
const VOWELS = [...Buffer.from('aeiou')];
const prompt = [...Buffer.from('The gate decides what each token meets, again and')];

/** Eq. 3 of the paper by whole forward passes. */
async function reference(
  text: readonly number[],
  count: number,
  k: number,
  alpha: number,
  keeps: (token: number) => boolean = () => true,
): Promise<number[]> {
  const tokens = [...text];
  const { dModel, vocabSize } = model.config;
  const passOf = async (ids: readonly number[]) => {
    const { logits, hiddenStates = [] } = await model.forward({ inputIds: [ids], outputHiddenStates: true });
    const row = ((await logits.data()) as Float32Array).slice(-vocabSize);
    return { row, states: (await hiddenStates.at(-1)?.data()) as Float32Array };
  };
  const cosine = (a: Float32Array, b: Float32Array): number => {
    const sums = [0, 0, 0];
    a.forEach((x, i) => {
      const y = b[i] as number;
      [x * y, x * x, y * y].forEach((v, s) => {
        sums[s] = (sums[s] as number) + v;
      });
    });
    return (sums[0] as number) / Math.sqrt((sums[1] as number) * (sums[2] as number));
  };
  for (let n = 0; n < count; n++) {
    const { row } = await passOf(tokens);
    const kept = [...row.keys()].filter(keeps);
    const norm = kept.reduce((sum, id) => sum + Math.exp(row[id] as number), 0);
    const best = kept.sort((a, b) => (row[b] as number) - (row[a] as number)).slice(0, k);
    const scores: number[] = [];
    for (const token of best) {
      const { states } = await passOf([...tokens, token]);
      const at = (i: number): Float32Array => states.subarray(i * dModel, (i + 1) * dModel);
      const nearest = Math.max(...tokens.map((_, i) => cosine(at(i), at(tokens.length))));
      scores.push((1 - alpha) * (Math.exp(row[token] as number) / norm) - alpha * nearest);
    }
    tokens.push(best[scores.indexOf(Math.max(...scores))] as number);
  }
  return tokens.slice(text.length);
}

describe('contrastive search', () => {
  it.each([
    [4, 0.6],
    [2, 0.3],
    [7, 1],
    [5, 0],
    [1, 0.5],
  ])('among %d with a penalty of %d follows its definition', async (topK, penalty) => {
    const want = await reference(prompt, 10, topK, penalty);
    const options = { maxTokens: 10, contrastive: { topK, penalty } };
    const { tokens, logprobs } = await model.generate(prompt, options).result();
    expect(tokens).toEqual(want);
    expect(logprobs.every((p) => p <= 0)).toBe(true);
    if (topK === 1 || penalty === 0)
      expect(tokens).toEqual((await model.generate(prompt, { maxTokens: 10 }).result()).tokens);
  });

  it.each<[string, GenerateOptions]>([
    ['a grammar', { regex: '[aeiou]{40}', stopTokens: [256] }],
    [
      'bans',
      { suppressTokens: Array.from({ length: 260 }, (_, id) => id).filter((id) => !VOWELS.includes(id)) },
    ],
  ])('chooses among what %s leaves, by their probability among themselves', async (_, options) => {
    const want = await reference(prompt, 10, 3, 0.6, (id) => VOWELS.includes(id));
    const contrastive = { topK: 3, penalty: 0.6 };
    const { tokens, logprobs } = await model
      .generate(prompt, { maxTokens: 10, contrastive, ...options })
      .result();
    expect(tokens).toEqual(want);
    const scored = await model.logprobs([...prompt, ...tokens]);
    for (const [i, { logprob }] of scored.slice(-10).entries()) expect(logprobs[i]).toBeCloseTo(logprob, 4);
  });

  it('gives the same beside others, in a cache that cannot hold all, and after the prompt was read before', async () => {
    const small = await loadLanguageModel(path, { contextLength: 256, cacheTokens: 6 * 32 });
    const options = { maxTokens: 40, contrastive: {} };
    const texts = [prompt, prompt.slice(0, 40), prompt];
    const want = await Promise.all(texts.map((text) => model.generate(text, options).result()));
    const got = await small.generateAll(texts, options);
    expect(got.map((r) => r.tokens)).toEqual(want.map((r) => r.tokens));
    expect(small.scheduler.statistics.preemptions).toBeGreaterThan(0);
    expect(small.engine.cache.freeBlocks).toBe(6);
    await small.dispose();
  });

  it('ends at stop tokens and stop strings', async () => {
    const { tokens, text } = await model.generate(prompt, { maxTokens: 20, contrastive: {} }).result();
    const stop = text.slice(5, 7);
    const cut = await model.generate(prompt, { maxTokens: 20, contrastive: {}, stop }).result();
    expect(cut.text).toBe(text.slice(0, text.indexOf(stop)));
    const token = tokens[8] as number;
    const ended = await model
      .generate(prompt, { maxTokens: 20, contrastive: {}, stopTokens: [token] })
      .result();
    expect(ended.tokens).toEqual(tokens.slice(0, tokens.indexOf(token) + 1));
  });

  it.each<[ContrastiveOptions, object, RegExp]>([
    [{ topK: 0 }, {}, /topK 0/],
    [{ topK: 65 }, {}, /topK 65/],
    [{ penalty: 1.5 }, {}, /penalty 1.5/],
    [{ alpha: 0.6 } as never, {}, /'alpha'/],
    [{}, { temperature: 1 }, /contrastive together with temperature/],
    [{}, { beams: 2 }, /beams together with contrastive/],
  ])('%j with %j is refused', async (contrastive, options, message) => {
    const run = async () => model.generate(prompt, { contrastive, ...options }).result();
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(message),
    });
  });
});
