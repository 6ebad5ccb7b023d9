import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { logSumExp } from '../../../src/generate/log-sum-exp.js';
import { type BeamOptions, type BeamRules, BeamState, stepsOf } from '../../../src/generate/search/beam.js';
import { likeliest } from '../../../src/generate/search/likeliest.js';
import { abortAtStep } from '../../helpers/abort-at-step.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { writeTinyFolder } from '../../helpers/tiny-model.js';

const path = join(temporaryFolder(), 'dense');
let model: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path, { eosId: null });
  model = await loadLanguageModel(path, { contextLength: 256, cacheTokens: 2048 });
});
afterAll(() => model.dispose());
const prompt = [...Buffer.from('The gate decides what each token meets, and the router is a plain matrix.')];

describe('the likeliest tokens', () => {
  const row = fc.array(fc.integer({ min: -4, max: 4 }), { minLength: 1, maxLength: 40 });
  const penalties = fc.dictionary(fc.nat(39).map(String), fc.integer({ min: 0, max: 5 }), { maxKeys: 6 });
  it('are those a whole sort finds, less their penalties', () => {
    fc.assert(
      fc.property(row, fc.nat(45), penalties, (values, count, named) => {
        const logits = Float32Array.from(values);
        const less = new Map(
          Object.entries(named)
            .map(([id, p]) => [Number(id), p] as const)
            .filter(([id]) => id < values.length),
        );
        const norm = Math.log(values.reduce((sum, v) => sum + Math.exp(v), 0));
        const all = values
          .map((v, token) => ({ token, logprob: v - norm - (less.get(token) ?? 0) }))
          .sort((a, b) => Math.round((b.logprob - a.logprob) * 1e6) || a.token - b.token)
          .slice(0, count);
        const got = likeliest(logits, count, less);
        expect(got.map((c) => c.token)).toEqual(all.map((c) => c.token));
        for (const [i, { logprob }] of all.entries()) expect(got[i]?.logprob).toBeCloseTo(logprob, 9);
      }),
      { seed: 3, numRuns: 1000 },
    );
  });
});

describe('a search that keeps everything', () => {
  /** Logits behind a path, by its last token and its length. */
  const tableOf = (values: readonly number[], v: number) => (tokens: readonly number[]) =>
    Float32Array.from(
      { length: v },
      (_, t) => values[((tokens.at(-1) ?? 0) * v + t + 7 * tokens.length) % values.length] as number,
    );

  function searched(rules: BeamRules, logitsOf: (tokens: readonly number[]) => Float32Array) {
    const state = new BeamState(rules);
    while (!state.done)
      state.advance(
        state.open.map(({ tokens }) => stepsOf({ logits: logitsOf(tokens), scores: null }, state.wanted)),
      );
    return state.ended;
  }

  /** Every path to its end. */
  function all(rules: BeamRules, v: number, logitsOf: (tokens: readonly number[]) => Float32Array) {
    const ended: { tokens: number[]; score: number }[] = [];
    const walk = (tokens: number[], sum: number): void => {
      for (const { token, logprob } of likeliest(logitsOf(tokens), v)) {
        const path = [...tokens, token];
        const total = sum + logprob;
        if (rules.endTokens.has(token) || path.length === rules.maxTokens)
          ended.push({ tokens: path, score: total / path.length ** rules.lengthPenalty });
        else walk(path, total);
      }
    };
    walk([], 0);
    return ended.sort((a, b) => b.score - a.score);
  }

  it('finds the best of all texts', () => {
    const values = fc.array(fc.double({ min: -3, max: 3, noNaN: true }), { minLength: 20, maxLength: 20 });
    fc.assert(
      fc.property(
        values,
        fc.constantFrom(0, 1, 2, -1),
        fc.integer({ min: 1, max: 4 }),
        (table, lengthPenalty, maxTokens) => {
          const v = 3;
          const rules: BeamRules = {
            beams: 3 ** 4,
            lengthPenalty,
            earlyStopping: 'never',
            maxTokens,
            endTokens: new Set([2]),
          };
          const logitsOf = tableOf(table, v);
          const want = all(rules, v, logitsOf);
          const got = searched(rules, logitsOf);
          expect(got).toHaveLength(want.length);
          for (const [i, { score }] of want.entries()) expect(got[i]?.score).toBeCloseTo(score, 9);
        },
      ),
      { seed: 5, numRuns: 300 },
    );
  });
});

describe('beams', () => {
  const search = async (beams: number | BeamOptions, options: GenerateOptions = {}) =>
    model.generate(prompt, { maxTokens: 12, beams, ...options }).result();

  it('of one is greedy', async () => {
    const greedy = await model.generate(prompt, { maxTokens: 12 }).result();
    const { tokens, hypotheses = [], finishReason } = await search(1);
    expect(tokens).toEqual(greedy.tokens);
    expect(finishReason).toBe('length');
    const sum = greedy.logprobs.reduce((a, b) => a + b);
    expect(hypotheses[0]?.score).toBeCloseTo(sum / 12, 4);
    expect(hypotheses[0]?.text).toBe(greedy.text);
  });

  it('of more are at least as likely, come best first and share the blocks of the prompt', async () => {
    const one = await search({ beams: 1, lengthPenalty: 0 });
    const generation = model.generate(prompt, {
      maxTokens: 12,
      beams: { beams: 6, returned: 6, lengthPenalty: 0 },
    });
    let most = 0;
    const { freeBlocks, blocks } = model.engine.cache;
    expect(freeBlocks).toBe(blocks);
    const watch = setInterval(() => {
      most = Math.max(most, blocks - model.engine.cache.freeBlocks);
    }, 0);
    const { hypotheses = [] } = await generation.result();
    clearInterval(watch);
    const scores = hypotheses.map((h) => h.score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    expect(scores[0]).toBeGreaterThanOrEqual((one.hypotheses?.[0]?.score as number) - 1e-9);
    expect(new Set(hypotheses.map((h) => h.tokens.join())).size).toBe(6);
    // two full blocks in common, and for each beam one or two of its own (one more while it is copied)
    expect(most).toBeLessThanOrEqual(2 + 3 * 6);
    expect(model.engine.cache.freeBlocks).toBe(blocks);
  });

  it('hand their best text out in parts', async () => {
    const generation = model.generate(prompt, { maxTokens: 12, beams: 4 });
    let text = '';
    for await (const part of generation) text += part.text;
    const { hypotheses = [], text: whole } = await generation.result();
    expect([text, whole]).toEqual([hypotheses[0]?.text, hypotheses[0]?.text]);
  });

  it('find the same in a cache that cannot hold all of them at once', async () => {
    const small = await loadLanguageModel(path, { contextLength: 256, cacheTokens: 6 * 32 });
    const settings = { beams: 5, returned: 5 };
    const want = await search(settings, { maxTokens: 40 });
    const got = await small.generate(prompt, { maxTokens: 40, beams: settings }).result();
    expect(got.hypotheses).toEqual(want.hypotheses);
    expect(small.scheduler.statistics.preemptions).toBeGreaterThan(0);
    await small.dispose();
  });

  it('can be aborted', async () => {
    const run = search(4, { maxTokens: 100, signal: abortAtStep(model, 5) });
    await expect(run).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    expect(model.engine.cache.freeBlocks).toBe(model.engine.cache.blocks);
  });

  it.each<[string, unknown, object, RegExp]>([
    ['none', 0, {}, /beams 0/],
    ['half a beam', 1.5, {}, /beams 1.5/],
    ['too many', 65, {}, /beams 65.*at most 64/],
    ['a text', 'four', {}, /got a string/],
    ['more returned than kept', { beams: 2, returned: 3 }, {}, /returned 3.*at most 2/],
    ['an odd early stop', { beams: 2, earlyStopping: 'always' }, {}, /earlyStopping always/],
    ['an endless length penalty', { beams: 2, lengthPenalty: Infinity }, {}, /lengthPenalty Infinity/],
    ['groups that do not divide', { beams: 4, groups: 3 }, {}, /3 groups of 4 beams/],
    ['a penalty without groups', { beams: 4, diversityPenalty: 1 }, {}, /diversityPenalty 1/],
    ['a misspelt option', { beams: 2, length_penalty: 1 }, {}, /length_penalty/],
    ['a sampler beside', 2, { temperature: 1 }, /beams together with temperature/],
  ])('%s: refused', async (_, beams, options, message) => {
    const run = async () => search(beams as number, options);
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(message),
    });
  });
});

describe('beams with bans, penalties and forced tokens', () => {
  const V = 260;
  /** The best text of `count` tokens from a few that are allowed, with what `edit` makes of each row of log-probabilities. */
  async function exhaustive(
    allowed: readonly number[],
    count: number,
    edit: (row: Map<number, number>, made: readonly number[]) => void,
  ): Promise<{ tokens: number[]; sum: number }> {
    let best = { tokens: [] as number[], sum: -Infinity };
    const walk = async (made: number[], sum: number): Promise<void> => {
      if (made.length === count) {
        if (sum > best.sum) best = { tokens: made, sum };
        return;
      }
      const { logits } = await model.forward({ inputIds: [[...prompt, ...made]] });
      const last = ((await logits.data()) as Float32Array).slice(-V);
      const norm = logSumExp(last);
      const row = new Map(allowed.map((id) => [id, (last[id] as number) - norm]));
      edit(row, made);
      for (const [id, p] of row) if (p > -Infinity) await walk([...made, id], sum + p);
    };
    await walk([], 0);
    return best;
  }
  const allowed = [65, 66, 67];
  const suppressTokens = Array.from({ length: V }, (_, id) => id).filter((id) => !allowed.includes(id));
  const beams = { beams: 27, lengthPenalty: 0 };
  const found = async (options: GenerateOptions) => {
    const result = await model.generate(prompt, { maxTokens: 4, beams, suppressTokens, ...options }).result();
    return { tokens: result.tokens, sum: result.hypotheses?.[0]?.score as number, logprobs: result.logprobs };
  };

  it.each<[string, GenerateOptions, (row: Map<number, number>, made: readonly number[]) => void]>([
    ['bans alone', {}, () => undefined],
    ['a bias', { logitBias: { 66: 2 } }, (row) => row.set(66, (row.get(66) as number) + 2)],
    [
      'a penalty on what was said',
      { repetitionPenalty: 1.7 },
      (row, made) => {
        for (const id of new Set([...prompt, ...made]))
          if (row.has(id)) row.set(id, (row.get(id) as number) * 1.7);
      },
    ],
    [
      'no pair twice',
      { noRepeatNgramSize: 2 },
      (row, made) => {
        const text = [...prompt, ...made];
        for (let i = 0; i + 1 < text.length; i++)
          if (text[i] === text.at(-1)) row.delete(text[i + 1] as number);
      },
    ],
  ])('%s', async (_, options, edit) => {
    const want = await exhaustive(allowed, 4, edit);
    const got = await found(options);
    expect(got.tokens).toEqual(want.tokens);
    expect(got.sum).toBeCloseTo(want.sum, 3);
    // what the model itself said of these tokens
    const { logits } = await model.forward({ inputIds: [[...prompt, ...got.tokens]] });
    const all = (await logits.data()) as Float32Array;
    for (const [i, token] of got.tokens.entries()) {
      const row = all.slice((prompt.length - 1 + i) * V, (prompt.length + i) * V);
      expect(got.logprobs[i]).toBeCloseTo((row[token] as number) - logSumExp(row), 3);
    }
  });

  it('no end before so many tokens', async () => {
    const { tokens } = await model.generate(prompt, { maxTokens: 12, beams: 3 }).result();
    const ending = { maxTokens: 12, beams: 3, stopTokens: [tokens[3] as number] };
    const early = await model.generate(prompt, ending).result();
    expect(early.tokens.length).toBeLessThan(10);
    const late = await model.generate(prompt, { ...ending, minTokens: 10 }).result();
    expect(late.tokens.length).toBeGreaterThanOrEqual(10);
    expect(late.tokens.slice(0, 9)).not.toContain(tokens[3]);
  });

  it('that leave nothing are an error', async () => {
    const all = Array.from({ length: V }, (_, id) => id);
    await expect(
      model.generate(prompt, { beams: 2, maxTokens: 3, suppressTokens: all }).result(),
    ).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(/no token that is allowed/),
    });
  });
});

describe('diverse beams', () => {
  it('without a penalty are independent groups that find the same', async () => {
    const beams = { beams: 6, returned: 6, groups: 3, diversityPenalty: 0 };
    const { hypotheses = [] } = await model.generate(prompt, { maxTokens: 8, beams }).result();
    const { hypotheses: plain = [] } = await model
      .generate(prompt, { maxTokens: 8, beams: { beams: 2, returned: 2 } })
      .result();
    const tripled = plain.flatMap((h) => [h.tokens, h.tokens, h.tokens]);
    expect(hypotheses.map((h) => h.tokens)).toEqual(tripled);
  });

  // By hand: three groups of one beam are three greedy searches, each kept from the tokens of those before.
  it('with a penalty are kept from what the groups before chose', async () => {
    const penalty = 1.5;
    const beams = { beams: 3, returned: 3, groups: 3, diversityPenalty: penalty, lengthPenalty: 0 };
    const { hypotheses = [] } = await model.generate(prompt, { maxTokens: 6, beams }).result();
    const groups: { tokens: number[]; sum: number }[] = [0, 1, 2].map(() => ({ tokens: [], sum: 0 }));
    for (let n = 0; n < 6; n++) {
      const chosen = new Map<number, number>();
      for (const group of groups) {
        const { logits } = await model.forward({ inputIds: [[...prompt, ...group.tokens]] });
        const last = ((await logits.data()) as Float32Array).slice(-model.config.vocabSize);
        const [best] = likeliest(last, 1, chosen);
        group.tokens.push(best?.token as number);
        group.sum += best?.logprob as number;
        chosen.set(best?.token as number, (chosen.get(best?.token as number) ?? 0) + penalty);
      }
    }
    const want = groups.sort((a, b) => b.sum - a.sum);
    expect(hypotheses.map((h) => h.tokens)).toEqual(want.map((g) => g.tokens));
    expect(new Set(hypotheses.map((h) => h.tokens[0])).size).toBeGreaterThan(1);
    for (const [i, { sum }] of want.entries()) expect(hypotheses[i]?.score).toBeCloseTo(sum, 3);
  });
});
