// Whatever else runs, waits, is sent out of the cache or ends early: a sequence's tokens are those it has alone.
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../../src/core/errors.js';
import type { GenerateOptions } from '../../../src/generate/generation.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../../src/generate/handles/load-options.js';
import { samplers } from '../../../src/generate/samplers/index.js';
import { Sampling } from '../../../src/generate/steps/sampling.js';
import { MAX_CHUNK } from '../../../src/generate/steps/step-inputs.js';
import { KV_BLOCK } from '../../../src/nn/kv-blocks.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import { writeTinyFolder } from '../../helpers/tiny-model.js';

const path = join(temporaryFolder(), 'sparse');
const open: LanguageModel[] = [];
async function load(options: LoadModelOptions = {}): Promise<LanguageModel> {
  const model = await loadLanguageModel(path, { contextLength: 1024, cacheTokens: 8192, ...options });
  open.push(model);
  return model;
}
/** Room for everything, one request at a time: what texts should be. */
let solo: LanguageModel;
let model: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path, { nExperts: 4, eosId: null });
  solo = await load();
  model = await load();
});
afterEach(() => {
  for (const { engine } of open) {
    expect(engine.cache.freeBlocks).toBe(engine.cache.blocks);
    engine.cache.pool.clear();
  }
});
afterAll(() => Promise.all(open.map((m) => m.dispose())));

const next = generator(11);
const ids = (n: number): number[] => Array.from({ length: n }, () => Math.floor(next() * 256));
type Outcome = Pick<
  Awaited<ReturnType<ReturnType<LanguageModel['generate']>['result']>>,
  'tokens' | 'logprobs'
>;
async function run(on: LanguageModel, prompt: readonly number[], options: GenerateOptions): Promise<Outcome> {
  const { tokens, logprobs } = await on.generate(prompt, options).result();
  return { tokens, logprobs };
}
/** The same alone, without anything shared. */
const alone = (prompt: readonly number[], options: GenerateOptions): Promise<Outcome> =>
  run(solo, prompt, { ...options, cacheSalt: null, priority: 0 });
/** What `act` adds to the counts of a model. */
async function counted(on: LanguageModel, act: () => Promise<unknown>) {
  const before = on.scheduler.statistics;
  await act();
  const after = on.scheduler.statistics;
  return {
    steps: after.steps - before.steps,
    fed: after.fedTokens - before.fedTokens,
    shared: after.sharedTokens - before.sharedTokens,
    preemptions: after.preemptions - before.preemptions,
  };
}

describe('calls made at the same time', () => {
  it('share their steps', async () => {
    const prompts = Array.from({ length: 12 }, (_, i) => ids(3 + i));
    const options = { maxTokens: 10 };
    let together: Outcome[] = [];
    const { steps } = await counted(model, async () => {
      together = await Promise.all(prompts.map((p) => run(model, p, options)));
    });
    expect(steps).toBe(10);
    for (const [i, prompt] of prompts.entries()) expect(together[i]).toEqual(await alone(prompt, options));
  });

  it('decode on while a long prompt is read', async () => {
    const short = ids(5);
    const long = ids(2 * MAX_CHUNK - 100);
    const order: string[] = [];
    let reading: Promise<void> | null = null;
    const follow = async (name: string, prompt: number[], maxTokens: number): Promise<void> => {
      for await (const _ of model.generate(prompt, { maxTokens }))
        if (order.push(name) === 2) reading = follow('long', long, 2);
    };
    await follow('short', short, 12);
    await reading;
    // one or two steps have begun already; then come two pieces of the prompt, a token of the short one beside each
    expect(order.indexOf('long')).toBeGreaterThanOrEqual(5);
    expect(order.indexOf('long')).toBeLessThanOrEqual(6);
    expect(order.lastIndexOf('short')).toBe(13);
    const result = await run(model, long, { maxTokens: 2 });
    expect(result).toEqual(await alone(long, { maxTokens: 2 }));
  });
});

describe('a common beginning', () => {
  const prefix = ids(400);
  const prompts = Array.from({ length: 16 }, (_, i) => [...prefix, ...ids(1 + (i % 7))]);

  it('is computed once, also where all come at once', async () => {
    let together: Outcome[] = [];
    const options = { maxTokens: 4 };
    const { fed, shared } = await counted(model, async () => {
      together = await Promise.all(prompts.map((p) => run(model, p, options)));
    });
    expect(shared).toBe(15 * 12 * KV_BLOCK);
    expect(fed).toBeLessThan(400 + 16 * (16 + 7 + 4));
    for (const [i, prompt] of prompts.entries()) expect(together[i]).toEqual(await alone(prompt, options));
  });

  it('is found again later, until its memory is needed', async () => {
    const small = await load({ cacheTokens: 512 });
    const first = await counted(small, () => run(small, prefix, { maxTokens: 2 }));
    const again = await counted(small, () => run(small, prefix, { maxTokens: 2 }));
    await run(small, ids(490), { maxTokens: 2 });
    const late = await counted(small, () => run(small, prefix, { maxTokens: 2 }));
    expect([first.shared, again.shared, late.shared]).toEqual([0, 12 * KV_BLOCK, 0]);
  });

  it('of the whole prompt leaves a token to be fed', async () => {
    const prompt = prefix.slice(0, 4 * KV_BLOCK);
    const want = await alone(prompt, { maxTokens: 3 });
    for (let i = 0; i < 2; i++) expect(await run(model, prompt, { maxTokens: 3 })).toEqual(want);
  });

  it('is found in what was generated', async () => {
    const prompt = ids(40);
    const { tokens } = await run(model, prompt, { maxTokens: 60 });
    const { shared } = await counted(model, () => run(model, [...prompt, ...tokens, 7], { maxTokens: 1 }));
    expect(shared).toBe(3 * KV_BLOCK);
  });

  it.each([
    ['other salts', 'a', 'b'],
    ['no salt', null, null],
  ])('is not shared by %s', async (_, a, b) => {
    await run(model, prefix, { maxTokens: 1, cacheSalt: a });
    const { shared } = await counted(model, () => run(model, prefix, { maxTokens: 1, cacheSalt: b }));
    expect(shared).toBe(0);
  });

  it('is computed again where routing is counted', async () => {
    await run(model, prefix, { maxTokens: 1 });
    const { routing = [] } = await model.generate(prefix, { maxTokens: 1, routing: true }).result();
    expect(routing[0]?.tokensPerExpert.reduce((a, b) => a + b)).toBe(2 * prefix.length);
  });
});

describe('a cache too small for all', () => {
  const options = { maxTokens: 40 };
  const prompts = Array.from({ length: 9 }, (_, i) => ids(20 + 13 * i));

  it.each([192, 256, 512])(
    'of %d tokens makes them wait and gives each its own text',
    async (cacheTokens) => {
      const small = await load({ cacheTokens });
      const together = await Promise.all(prompts.map((p) => run(small, p, options)));
      for (const [i, prompt] of prompts.entries()) expect(together[i]).toEqual(await alone(prompt, options));
      const batch = await small.generateAll(prompts, options);
      expect(batch.map((r) => r.tokens)).toEqual(together.map((r) => r.tokens));
    },
  );

  it('sends some out that read their text again', async () => {
    const small = await load({ cacheTokens: 6 * KV_BLOCK });
    // each comes in with two blocks to go, and grows to four
    const four = Array.from({ length: 4 }, () => ids(10));
    const long = { maxTokens: 100 };
    let together: Outcome[] = [];
    const { preemptions } = await counted(small, async () => {
      together = await Promise.all(four.map((p) => run(small, p, long)));
    });
    expect(preemptions).toBeGreaterThan(0);
    for (const [i, prompt] of four.entries()) expect(together[i]).toEqual(await alone(prompt, long));
  });

  it('serves them as they came', async () => {
    const small = await load({ cacheTokens: 160 });
    const done: number[] = [];
    await Promise.all(
      prompts.slice(0, 6).map(async (p, i) => {
        await run(small, p, { maxTokens: 8 });
        done.push(i);
      }),
    );
    expect(done).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('serves the more important first, which may send others out', async () => {
    const small = await load({ cacheTokens: 4 * KV_BLOCK });
    const done: string[] = [];
    const prompt = prompts[2] as number[];
    const running: Promise<number[]>[] = [];
    const follow = async (name: string, priority: number): Promise<number[]> => {
      const tokens: number[] = [];
      for await (const part of small.generate(prompt, { maxTokens: 50, priority, cacheSalt: name })) {
        if (tokens.push(part.token) === 3 && name === 'second') running.push(follow('high', 5));
      }
      done.push(name);
      return tokens;
    };
    running.push(follow('low', -1), follow('second', 0));
    await Promise.all(running);
    const want = await alone(prompt, { maxTokens: 50 });
    for (const tokens of await Promise.all(running)) expect(tokens).toEqual(want.tokens);
    expect(done).toEqual(['high', 'second', 'low']);
  });

  it('gives the room of a reader who does not read on to others', async () => {
    const small = await load({ cacheTokens: 4 * KV_BLOCK });
    const prompt = prompts[3] as number[];
    const slow = small.generate(prompt, { maxTokens: 30 });
    const parts: number[] = [];
    for await (const { token } of slow) {
      parts.push(token);
      if (parts.length === 3) await run(small, prompts[4] as number[], { maxTokens: 20 });
    }
    expect(parts).toEqual((await alone(prompt, { maxTokens: 30 })).tokens);
  });

  it('for the first is no reason for the next to wait', async () => {
    const small = await load({ cacheTokens: 64 });
    const runs = [ids(70), ids(60), ids(70), ids(8)].map((p) => run(small, p, { maxTokens: 2 }));
    const done = await Promise.allSettled(runs);
    expect(done.map((d) => d.status)).toEqual(['rejected', 'fulfilled', 'rejected', 'fulfilled']);
  });

  it('for a prompt is an error at once, whatever runs', async () => {
    const small = await load({ cacheTokens: 64 });
    let parts = 0;
    for await (const _ of small.generate(ids(8), { maxTokens: 20 })) {
      if (++parts === 3)
        await expect(run(small, ids(70), { maxTokens: 1 })).rejects.toMatchObject({
          code: 'ERR_CONTEXT_LENGTH',
        });
    }
    expect(parts).toBe(20);
  });

  it('for one alone is an error, and others go on', async () => {
    const small = await load({ cacheTokens: 64 });
    const [good, bad, grown] = await Promise.allSettled([
      run(small, ids(30), { maxTokens: 10 }),
      run(small, ids(70), { maxTokens: 10 }),
      run(small, ids(30), { maxTokens: 100 }),
    ]);
    expect(good.status).toBe('fulfilled');
    for (const failed of [bad, grown]) {
      const { reason } = failed as PromiseRejectedResult;
      expect(reason).toBeInstanceOf(SwitchyardError);
      expect(reason).toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    }
  });
});

it('an error of one sequence is its own', async () => {
  const lanes = Array.from({ length: 3 }, () => model.scheduler.open());
  const outside = samplers.forcedTokens({ 0: 100_000 });
  const answers = await Promise.allSettled(
    lanes.map((lane, i) =>
      lane.feed([1, 2, 3 + i], { sampling: new Sampling(i === 1 ? outside : samplers.greedy()) }),
    ),
  );
  expect(answers.map((a) => a.status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect((answers[1] as PromiseRejectedResult).reason.message).toMatch(/100000/);
  await Promise.all(lanes.map((lane) => lane.close()));
});

describe('a lane', () => {
  const greedy = (): Sampling => new Sampling(samplers.greedy());

  it('forks: both go their ways over common blocks', async () => {
    const prompt = ids(40);
    const first = model.scheduler.open();
    await first.feed(prompt, { sampling: null });
    const twins = [first, first.fork(), first.fork()];
    const used = model.engine.cache.blocks - model.engine.cache.freeBlocks;
    expect(used).toBe(2);
    const results = await Promise.all(
      twins.map((lane, i) => lane.feed([i, 5, 6], { sampling: greedy(), logits: true })),
    );
    expect(model.engine.cache.blocks - model.engine.cache.freeBlocks).toBe(4);
    for (const [i, { logits }] of results.entries()) {
      const other = solo.scheduler.open({ salt: null });
      const want = await other.feed([...prompt, i, 5, 6], { sampling: greedy(), logits: true });
      expect(logits).toEqual(want.logits);
      await other.close();
    }
    await Promise.all(twins.map((lane) => lane.close()));
  });

  it('cut back goes on as if the rest had never been', async () => {
    const text = ids(80);
    const lane = model.scheduler.open();
    await lane.feed(text, { sampling: null });
    for (const length of [70, 64, 33, 5, 0]) {
      lane.truncate(length);
      const more = [9, 8, 7];
      const { logits } = await lane.feed(more, { sampling: greedy(), logits: true });
      const other = solo.scheduler.open({ salt: null });
      const want = await other.feed([...text.slice(0, length), ...more], {
        sampling: greedy(),
        logits: true,
      });
      expect(logits).toEqual(want.logits);
      await other.close();
    }
    await lane.close();
  });

  it('chooses behind several tokens at once as behind one after the other', async () => {
    const prompt = ids(30);
    const drafts = ids(5);
    const sampler = samplers.sample({ temperature: 1, seed: 3, repetitionPenalty: 1.3 });
    const sampling = new Sampling(sampler, prompt);
    const chain = drafts.map((token) => {
      const before = sampling.fork();
      sampling.take({ token });
      return before;
    });
    const lane = model.scheduler.open();
    const many = await lane.feed([...prompt, ...drafts], { earlier: chain, sampling, logits: true });
    expect(many.results).toHaveLength(6);
    const single = model.scheduler.open({ salt: null });
    for (const [i, past] of [...chain, sampling].entries()) {
      const tokens = i === 0 ? prompt : [drafts[i - 1] as number];
      const { results, logits } = await single.feed(tokens, { sampling: past, logits: true });
      expect(results[0]).toEqual(many.results[i]);
      const v = model.config.vocabSize;
      expect(logits).toEqual(many.logits?.slice(i * v, (i + 1) * v));
    }
    await Promise.all([lane.close(), single.close()]);
  });

  it('takes one question at a time, and none once closed', async () => {
    const lane = model.scheduler.open();
    const answer = lane.feed([1], { sampling: null });
    expect(() => lane.feed([2], { sampling: null })).toThrow(/feed while a question waits/);
    expect(() => lane.truncate(0)).toThrow(/truncate while/);
    expect(() => lane.fork()).toThrow(/fork while/);
    await answer;
    await lane.close();
    await expect(lane.feed([1], { sampling: null })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });
});

describe('a prefix that sees itself in both directions', () => {
  /** Greedy, by whole forward passes. */
  async function uncached(prompt: readonly number[], prefixLength: number, count: number): Promise<number[]> {
    const made: number[] = [];
    while (made.length < count) {
      const inputs = { inputIds: [[...prompt, ...made]], prefixLengths: [prefixLength] };
      const { logits } = await solo.forward(inputs);
      const last = ((await logits.data()) as Float32Array).slice(-solo.config.vocabSize);
      made.push(last.indexOf(last.reduce((a, b) => Math.max(a, b), -Infinity)));
    }
    return made;
  }
  const prompt = ids(90);

  it.each([0, 1, 33, 89, 90])('of %d tokens', async (prefixLength) => {
    const want = await uncached(prompt, prefixLength, 6);
    for (let again = 0; again < 2; again++) {
      const { tokens } = await model.generate(prompt, { maxTokens: 6, prefixLength }).result();
      expect(tokens).toEqual(want);
    }
  });

  it('changes the text', async () =>
    expect(await uncached(prompt, 90, 6)).not.toEqual(await uncached(prompt, 0, 6)));

  it('longer than a step is read in one, also beside others', async () => {
    const small = await load({ cacheTokens: 1024 });
    const long = ids(MAX_CHUNK + 70);
    const lengths = [MAX_CHUNK + 40, 0, 20, 90];
    const prompts = [long, ids(60), prompt, prompt];
    const options = { maxTokens: 30 };
    const results = await small.generateAll(prompts, { ...options, prefixLengths: lengths });
    for (const [i, p] of prompts.entries()) {
      const want = await run(solo, p, { ...options, prefixLength: lengths[i] as number });
      expect(results[i]?.tokens).toEqual(want.tokens);
    }
    const [first] = await small.generateAll([long], { maxTokens: 4, prefixLengths: [MAX_CHUNK + 40] });
    expect(first?.tokens).toEqual(await uncached(long, MAX_CHUNK + 40, 4));
  });

  it.each([
    [{ prefixLength: -1 }, /prefixLength -1/],
    [{ prefixLength: 91 }, /prefixLength 91.*90 tokens/],
    [{ prefixLengths: [1, 2] }, /2 prefixLengths for 1 prompts/],
    [{ prefixLengths: [1], prefixLength: 1 }, /and prefixLength/],
  ])('%j is refused', async (options, message) => {
    await expect(model.generateAll([prompt], options)).rejects.toThrow(message);
  });
});

it('200 generations at once, a fifth of them ended early: the others are as alone and all blocks return', async () => {
  const small = await load({ cacheTokens: 1024 });
  const prefixes = [ids(70), ids(33), []];
  const jobs = Array.from({ length: 200 }, (_, i) => ({
    prompt: [...(prefixes[i % 3] as number[]), ...ids(1 + Math.floor(next() * 20))],
    options: {
      maxTokens: 1 + Math.floor(next() * 40),
      priority: i % 10 === 0 ? 1 : 0,
      ...(i % 2 === 0 ? { temperature: 1, seed: i } : {}),
    },
    ends: next() < 0.2 ? Math.floor(next() * 40) : null,
  }));
  expect(jobs.filter((job) => job.ends !== null).length).toBeGreaterThan(20);
  const outcomes = await Promise.all(
    jobs.map(async ({ prompt, options, ends }) => {
      const abort = new AbortController();
      const generation = small.generate(prompt, { ...options, signal: abort.signal });
      const tokens: number[] = [];
      if (ends === 0) abort.abort();
      try {
        for await (const part of generation) {
          tokens.push(part.token);
          if (tokens.length === ends) abort.abort();
        }
      } catch (error) {
        expect(error).toMatchObject({ code: 'ERR_ABORTED' });
      }
      return tokens;
    }),
  );
  expect(small.engine.cache.freeBlocks).toBe(small.engine.cache.blocks);
  expect(small.scheduler.statistics.preemptions).toBeGreaterThan(0);
  for (const [i, { prompt, options, ends }] of jobs.entries()) {
    const { tokens } = await alone(prompt, options);
    const want = ends === null ? tokens : tokens.slice(0, (outcomes[i] as number[]).length);
    expect(outcomes[i]).toEqual(want);
    if (ends !== null && ends < tokens.length) expect(outcomes[i]?.length).toBeLessThanOrEqual(ends + 1);
  }
}, 60_000);
