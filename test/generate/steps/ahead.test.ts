// A step may begin before the one before it has ended: texts are what they are one step after the other.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../../src/core/errors.js';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { samplers } from '../../../src/generate/samplers/index.js';
import type { Sampler } from '../../../src/generate/samplers/sampler.js';
import { drafters } from '../../../src/generate/speculate/drafters.js';
import { type Choosing, Sampling } from '../../../src/generate/steps/sampling.js';
import { KV_BLOCK } from '../../../src/nn/kv-blocks.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import { TINY_VOCABULARY, writeTinyFolder } from '../../helpers/tiny-model.js';

const path = join(temporaryFolder(), 'sparse');
let model: LanguageModel;
/** Each step waits for the one before. */
let slow: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path, { nExperts: 4, eosId: null });
  const load = () => loadLanguageModel(path, { contextLength: 512, cacheTokens: 2048 });
  [model, slow] = [await load(), await load()];
  Object.defineProperty(slow.engine, 'runsAhead', { value: false });
  // however fast they are, no steps take place on this thread
  for (const { device } of [model, slow]) device.addon.runHere = () => null;
});
afterEach(() => {
  for (const { cache } of [model.engine, slow.engine]) {
    expect(cache.freeBlocks).toBe(cache.blocks);
    cache.pool.clear();
  }
});
afterAll(() => Promise.all([model.dispose(), slow.dispose()]));

const next = generator(5);
const ids = (n: number): number[] => Array.from({ length: n }, () => Math.floor(next() * 256));

/** The most steps that were begun and had not ended, while `act` ran. */
async function mostOpen(act: () => Promise<unknown>): Promise<number> {
  const { engine } = model;
  const begin = engine.begin.bind(engine);
  let [open, most] = [0, 0];
  engine.begin = async (...given) => {
    most = Math.max(most, ++open);
    const step = await begin(...given);
    const ended = (): void => void open--;
    void Promise.resolve(step.output).then(ended, ended);
    return step;
  };
  await act();
  engine.begin = begin;
  return most;
}

const prompts = [ids(5), ids(31), ids(64), ids(100)];
const cases: [string, GenerateOptions, number][] = [
  ['greedy', {}, 2],
  ['drawn', { temperature: 1, seed: 3 }, 2],
  ['filtered', { temperature: 0.9, topK: 20, topP: 0.9, minP: 0.01, seed: 3 }, 2],
  ['with places that count', { minTokens: 4, forcedTokens: { 2: 7, 6: 9 } }, 2],
  ['with likeliest tokens', { topLogprobs: 3 }, 2],
  ['with an echo', { echo: true, topLogprobs: 1 }, 2],
  ['ended by a stop string', { stop: ['e', 'a', 'o'], temperature: 1, seed: 1 }, 2],
  ['ended by a token', { stopTokens: Array.from({ length: 60 }, (_, i) => i) }, 2],
  ['a single token', { maxTokens: 1 }, 1],
  ['that looks back', { repetitionPenalty: 1.3 }, 1],
  ['with mirostat', { mirostat: {}, seed: 4 }, 1],
  ['with a hook', { logitsHook: (scores) => void scores.reverse() }, 1],
  ['with guesses', { speculation: drafters.ngram() }, 1],
];

describe('texts of steps that do not wait', () => {
  it.each(cases)('%s', async (_, options, open) => {
    const wanted = { maxTokens: 40, ...options };
    let got: unknown;
    expect(
      await mostOpen(async () => {
        got = await model.generateAll(prompts, wanted);
      }),
    ).toBe(open);
    expect(got).toEqual(await slow.generateAll(prompts, wanted));
  });

  it('beside one whose tokens must be known, together with it', async () => {
    const jobs: GenerateOptions[] = [{}, { repetitionPenalty: 1.3 }, { temperature: 1, seed: 1 }];
    const all = (on: LanguageModel) =>
      Promise.all(
        jobs.map(async (options, i) => {
          const { timings, ...result } = await on
            .generate(prompts[i] as number[], { maxTokens: 20, ...options })
            .result();
          return result;
        }),
      );
    const before = model.scheduler.statistics.steps;
    const got = await all(model);
    expect(model.scheduler.statistics.steps - before).toBe(20);
    expect(got).toEqual(await all(slow));
  });

  it('are found again, block by block', async () => {
    const prompt = ids(20);
    const { tokens } = await model.generate(prompt, { maxTokens: 3 * KV_BLOCK }).result();
    const before = model.scheduler.statistics.sharedTokens;
    await model.generate([...prompt, ...tokens], { maxTokens: 1 }).result();
    expect(model.scheduler.statistics.sharedTokens - before).toBe(3 * KV_BLOCK);
  });

  it.each([1, 2, 7])('after step %d has failed, and the one begun behind it', async (n) => {
    const { engine } = model;
    const begin = engine.begin.bind(engine);
    let left = n;
    engine.begin = async (...given) => {
      const step = await begin(...given);
      if (--left !== 0) return step;
      const output = Promise.resolve(step.output).then(() => Promise.reject(new Error('broken')));
      return { ...step, output };
    };
    const options = { maxTokens: 70 };
    const got = await model.generateAll(prompts, options);
    engine.begin = begin;
    expect(left).toBeLessThan(0);
    expect(got).toEqual(await slow.generateAll(prompts, options));
    // nothing is found that was never written
    expect(await model.generateAll(prompts, options)).toEqual(got);
  });

  it('end where nothing can be chosen, and others go on', async () => {
    const suppressTokens = Array.from({ length: TINY_VOCABULARY }, (_, i) => i);
    const barren = (): Promise<unknown> =>
      model
        .generate(ids(4), { maxTokens: 5, suppressTokens })
        .result()
        .catch((error: unknown) => error);
    expect(await barren()).toBeInstanceOf(SwitchyardError);
    const prompt = ids(9);
    const [error, text] = await Promise.all([barren(), model.generate(prompt, { maxTokens: 20 }).result()]);
    expect(error).toBeInstanceOf(SwitchyardError);
    expect(text.tokens).toEqual((await slow.generate(prompt, { maxTokens: 20 }).result()).tokens);
  });

  it('of one alone end with its error', async () => {
    const { engine } = model;
    const begin = engine.begin.bind(engine);
    engine.begin = async (...given) => {
      const step = await begin(...given);
      engine.begin = begin;
      return {
        ...step,
        output: Promise.resolve(step.output).then(() => Promise.reject(new Error('broken'))),
      };
    };
    await expect(model.generate(ids(4), { maxTokens: 5 }).result()).rejects.toThrow('broken');
  });
});

describe('a question behind one that waits', () => {
  const asked = (sampler: Sampler, prompt: readonly number[]): { now: Choosing; behind: Choosing } => {
    const now = new Sampling(sampler, prompt);
    return { now, behind: now.ahead() as Choosing };
  };

  it('is about the token behind its choice', async () => {
    const prompt = ids(40);
    const { now, behind } = asked(samplers.greedy(), prompt);
    const lane = model.scheduler.open();
    const first = lane.feed(prompt, { sampling: now });
    const second = lane.follow({ sampling: behind, last: true });
    expect(lane.follow({ sampling: behind })).toBeNull();
    const [a, b] = [await first, await second];
    const { tokens } = await slow.generate(prompt, { maxTokens: 2 }).result();
    expect([a, b].map((answer) => answer?.results[0]?.token)).toEqual(tokens);
    expect(lane.follow({ sampling: behind })).toBeNull();
    await lane.close();
  });

  it('ends where nothing was chosen, and the lane reads its text again', async () => {
    const all = Array.from({ length: TINY_VOCABULARY }, (_, i) => i);
    const prompt = ids(40);
    const { now, behind } = asked(samplers.chain([samplers.suppressTokens(all)]), prompt);
    const lane = model.scheduler.open();
    const first = lane.feed(prompt, { sampling: now });
    const second = lane.follow({ sampling: behind, last: true })?.catch((error: unknown) => error);
    expect((await first).results[0]?.token).toBe(-1);
    expect(await second).toMatchObject({ code: 'ERR_ABORTED' });
    const { results } = await lane.feed([], { sampling: new Sampling(samplers.greedy()) });
    const { tokens } = await slow.generate(prompt, { maxTokens: 1 }).result();
    expect(results.map(({ token }) => token)).toEqual(tokens);
    await lane.close();
  });

  it('ends with the lane', async () => {
    const { now, behind } = asked(samplers.greedy(), []);
    const lane = model.scheduler.open();
    const questions = [lane.feed(ids(4), { sampling: now }), lane.follow({ sampling: behind })];
    const codes = questions.map((question) => question?.catch(({ code }) => code));
    await lane.close();
    expect(await Promise.all(codes)).toEqual(['ERR_ABORTED', 'ERR_ABORTED']);
  });
});
