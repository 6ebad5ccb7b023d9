// What plain decoding takes beside its samplers, a search takes too: likeliest tokens, hooks, stop strings.
import { describe, expect, it } from 'vitest';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { logSumExp } from '../../../src/generate/log-sum-exp.js';
import { sharedTinyModel } from '../../helpers/shared-model.js';

let model: LanguageModel;
sharedTinyModel((loaded) => {
  model = loaded;
});

const prompt = [...Buffer.from('The gate decides what each token meets.')];
const maxTokens = 12;
const searched = async (options: GenerateOptions) => {
  const { timings, ...result } = await model.generate(prompt, { maxTokens, ...options }).result();
  return result;
};
const searches: [string, GenerateOptions][] = [
  ['beams', { beams: { beams: 4, returned: 4 } }],
  ['beams in groups', { beams: { beams: 4, groups: 2, returned: 4 } }],
  ['contrastive search', { contrastive: { topK: 4 } }],
];
type Found = Awaited<ReturnType<typeof searched>>;
const paths = ({ hypotheses, ...result }: Found) => hypotheses ?? [result];

describe.each(searches)('%s', (_, search) => {
  it('says what else might have stood in each place', async () => {
    const plainly = await searched(search);
    const found = await searched({ ...search, topLogprobs: 3 });
    expect(paths(found).map(({ tokens }) => tokens)).toEqual(paths(plainly).map(({ tokens }) => tokens));
    for (const { tokens, alternatives = [] } of paths(found)) {
      const forcedTokens = Object.fromEntries(tokens.map((token, i) => [i, token]));
      const want = await searched({ forcedTokens, maxTokens: tokens.length, topLogprobs: 3 });
      expect(want.tokens).toEqual(tokens);
      expect(alternatives).toHaveLength(tokens.length);
      for (const [i, { rank, top }] of alternatives.entries()) {
        expect(rank).toBe(want.alternatives?.[i]?.rank);
        expect(top.map(({ token }) => token)).toEqual(want.alternatives?.[i]?.top.map(({ token }) => token));
        for (const [j, { logprob }] of top.entries())
          expect(logprob).toBeCloseTo(want.alternatives?.[i]?.top[j]?.logprob as number, 5);
      }
    }
    expect(found.alternatives).toEqual(paths(found)[0]?.alternatives);
  });

  it('lets a hook see log-probabilities and the path, and what it removes is not chosen', async () => {
    const banned = (await searched(search)).tokens[2] as number;
    const lengths: number[] = [];
    const logitsHook = async (scores: Float32Array, tokens: Int32Array): Promise<void> => {
      expect(logSumExp(scores)).toBeCloseTo(0, 4);
      expect([...tokens.subarray(0, prompt.length)]).toEqual(prompt);
      lengths.push(tokens.length - prompt.length);
      await null;
      scores[banned] = -Infinity;
    };
    const found = await searched({ ...search, logitsHook });
    const want = await searched({ ...search, suppressTokens: [banned] });
    for (const [i, { tokens, ...rest }] of paths(found).entries()) {
      expect(tokens).not.toContain(banned);
      expect(tokens).toEqual(paths(want)[i]?.tokens);
      if ('score' in rest) expect(rest.score).toBeCloseTo((paths(want)[i] as typeof rest).score, 4);
    }
    expect(Math.max(...lengths)).toBeGreaterThanOrEqual(maxTokens - 1);
    // once for the prompt, and once for each path of a step
    expect(lengths.filter((length) => length === 0)).toHaveLength(1);
    expect(lengths.filter((length) => length === 1)).toHaveLength(4);
  });

  it('applies a hook at its place in the chain', async () => {
    const options = { logitBias: { 65: 50 }, suppressTokens: [66] };
    const seen: number[] = [];
    const logitsHook = (scores: Float32Array): void => {
      seen.push(scores[65] as number, scores[66] as number);
      scores[65] = -Infinity;
    };
    const found = await searched({ ...search, ...options, logitsHook, forcedTokens: { 1: 67 } });
    for (const { tokens } of paths(found)) {
      expect(tokens[1]).toBe(67);
      expect(tokens).not.toContain(65);
    }
    expect(seen[0]).toBeGreaterThan(20);
    expect(seen[1]).toBe(-Infinity);
  });

  it('ends with what a hook throws, and nobody else', async () => {
    const beside = searched({});
    const refused = searched({
      ...search,
      logitsHook: (_, tokens) => {
        if (tokens.length === prompt.length + 3) throw new Error('no more');
      },
    });
    await expect(refused).rejects.toThrow('no more');
    expect(await beside).toEqual(await searched({}));
  });
});

describe.each([
  ['beams', {}],
  ['beams in groups', { groups: 2 }],
])('%s and stop strings', (_, groups) => {
  /** Of bytes that are characters; short texts win. */
  const suppressTokens = Array.from({ length: 132 }, (_, i) => 128 + i);
  const search = { beams: { beams: 4, returned: 4, lengthPenalty: 0, ...groups }, suppressTokens };

  it('end as at a token of that text', async () => {
    const { tokens } = await searched(search);
    const [stop] = tokens.slice(4) as [number];
    const text = String.fromCharCode(stop);
    const found = await searched({ ...search, stop: text });
    const want = await searched({ ...search, stopTokens: [stop] });
    expect(found).toEqual(want);
    expect(paths(found).some((p) => p.tokens.length < maxTokens && p.tokens.at(-1) === stop)).toBe(true);
  });

  it('of several characters are not given out, nor anything behind them', async () => {
    const { tokens } = await searched(search);
    const stop = model.tokenizer.decode(tokens.slice(3, 5));
    const found = await searched({ ...search, stop: ['never there', stop] });
    let stopped = 0;
    for (const p of paths(found)) {
      const whole = model.tokenizer.decode([...p.tokens]);
      expect(p.text).toBe(whole.split(stop)[0]);
      if (whole.includes(stop)) {
        stopped++;
        expect(whole.endsWith(stop)).toBe(true);
      } else {
        expect(p.tokens).toHaveLength(maxTokens);
      }
    }
    expect(stopped).toBeGreaterThan(0);
    expect(found.text).toBe(paths(found)[0]?.text);
    expect(found.finishReason).toBe(
      model.tokenizer.decode([...found.tokens]).includes(stop) ? 'stop' : 'length',
    );
  });
});
