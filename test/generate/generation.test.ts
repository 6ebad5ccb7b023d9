import { EventEmitter } from 'node:events';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DisposedError, type ErrorCode, SwitchyardError } from '../../src/core/errors.js';
import type { GenerateOptions } from '../../src/generate/generation.js';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../src/generate/handles/load-options.js';
import { samplers } from '../../src/generate/samplers/index.js';
import { Sampling } from '../../src/generate/steps/sampling.js';
import { abortAtStep } from '../helpers/abort-at-step.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { writeTinyFolder } from '../helpers/tiny-model.js';

const CONTEXT = 160;
const folder = temporaryFolder();
const path = join(folder, 'dense');
const sparse = join(folder, 'sparse');
const load = (options: LoadModelOptions = {}, file = path) =>
  loadLanguageModel(file, { contextLength: CONTEXT, cacheTokens: 4 * CONTEXT, ...options });

let model: LanguageModel;
beforeAll(async () => {
  await writeTinyFolder(path);
  await writeTinyFolder(sparse, { nExperts: 4 });
  model = await load();
});
afterAll(() => model.dispose());

const prompt = [...Buffer.from('The gate decides')];
/** What `prompt` leads to, end tokens ignored. */
const tokensOf = async (options: GenerateOptions = {}) =>
  (await model.generate(prompt, { maxTokens: 24, ignoreEos: true, ...options }).result()).tokens;

async function rejection(act: () => Promise<unknown> | unknown): Promise<SwitchyardError> {
  try {
    await act();
  } catch (error) {
    expect(error).toBeInstanceOf(SwitchyardError);
    return error as SwitchyardError;
  }
  throw new Error('nothing was thrown');
}

async function collect(generation: AsyncIterable<{ text: string; token: number; logprob: number }>) {
  const parts: { text: string; token: number; logprob: number }[] = [];
  for await (const part of generation) parts.push(part);
  return parts;
}

describe('a stream', () => {
  it('gives one part for each token, whose texts make the whole', async () => {
    const generation = model.generate(prompt, { maxTokens: 24, ignoreEos: true });
    const parts = await collect(generation);
    const result = await generation.result();
    expect(parts.map((p) => p.token)).toEqual(result.tokens);
    expect(parts.map((p) => p.logprob)).toEqual(result.logprobs);
    expect(parts.map((p) => p.text).join('')).toBe(result.text);
    expect(result.text).toBe(model.tokenizer.decode([...result.tokens], { skipSpecialTokens: true }));
    expect(result.finishReason).toBe('length');
    expect(result.timings).toMatchObject({ promptTokens: prompt.length, newTokens: 24 });
    expect(result.logprobs.every((p) => p <= 0 && Number.isFinite(p))).toBe(true);
  });

  it('takes text or ids', async () => {
    const text = await model.generate('The gate decides', { maxTokens: 4 }).result();
    expect(text.tokens).toEqual((await tokensOf()).slice(0, 4));
  });

  it('can be asked for its result alone, but iterated only once', async () => {
    const generation = model.generate(prompt, { maxTokens: 2 });
    expect((await generation.result()).tokens).toHaveLength(2);
    expect((await generation.result()).tokens).toHaveLength(2);
    expect((await rejection(() => collect(generation))).code).toBe('ERR_OPTION');
  });

  // Bytes of a random model are mostly broken UTF-8: complete characters and U+FFFD may come out, halves may not.
  it('never holds half a character', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const generation = model.generate(prompt, { maxTokens: 40, temperature: 1.5, seed, ignoreEos: true });
      const parts = await collect(generation);
      for (const { text } of parts) expect(text).not.toMatch(/\p{Surrogate}/u);
      const all = parts.map((p) => p.text).join('');
      const tokens = parts.map((p) => p.token);
      expect(all).toBe(model.tokenizer.decode(tokens, { skipSpecialTokens: true }));
      expect(all).toBe(Buffer.from(tokens.filter((t) => t < 256)).toString('utf8'));
    }
  });
});

describe('maxTokens', () => {
  it.each([0, 1])('%d', async (maxTokens) => {
    const result = await model.generate(prompt, { maxTokens }).result();
    expect(result.tokens).toHaveLength(maxTokens);
    expect(result.finishReason).toBe('length');
    if (maxTokens === 0) expect(result.text).toBe('');
  });

  it('is what the context holds by default', async () => {
    const result = await model.generate(prompt, { ignoreEos: true }).result();
    expect(result.tokens).toHaveLength(CONTEXT - prompt.length);
    const more = await model.generate(prompt, { ignoreEos: true, maxTokens: 10 * CONTEXT }).result();
    expect(more.tokens).toEqual(result.tokens);
  });
});

describe('ends', () => {
  it('at a stop token, which counts as a token but gives no text', async () => {
    const tokens = await tokensOf();
    const stop = tokens[5] as number;
    const at = tokens.indexOf(stop);
    const result = await model
      .generate(prompt, { maxTokens: 24, ignoreEos: true, stopTokens: [stop] })
      .result();
    expect(result.tokens).toEqual(tokens.slice(0, at + 1));
    expect(result.text).toBe(model.tokenizer.decode(tokens.slice(0, at)));
    expect(result.finishReason).toBe('stop');
  });

  it("at the model's own end token, unless told to go on", async () => {
    const tokens = await tokensOf();
    const end = tokens[7] as number;
    const ending = join(folder, 'ending');
    await writeTinyFolder(ending, { eosId: end });
    const other = await load({}, ending);
    const result = await other.generate(prompt, { maxTokens: 24 }).result();
    expect(result.tokens).toEqual(tokens.slice(0, tokens.indexOf(end) + 1));
    expect(result.finishReason).toBe('stop');
    const on = await other.generate(prompt, { maxTokens: 24, ignoreEos: true }).result();
    expect(on.tokens).toEqual(tokens);
    await other.dispose();
  });

  it('at a stop string, which is not given out, wherever tokens cut it', async () => {
    // Text of single bytes: each character of a stop string is a token of its own.
    for (let seed = 0; seed < 12; seed++) {
      const options = { maxTokens: 40, temperature: 2, seed, ignoreEos: true };
      const { text } = await model.generate(prompt, options).result();
      const stop = text.slice(9, 12);
      const generation = model.generate(prompt, { ...options, stop });
      const parts = await collect(generation);
      const result = await generation.result();
      // Text that ends in half a character has no place for a stop string within it.
      expect(result.text).toBe(text.slice(0, text.indexOf(stop)));
      expect(parts.map((p) => p.text).join('')).toBe(result.text);
      expect(result.finishReason).toBe('stop');
      expect(result.tokens.length).toBeLessThan(40);
    }
  });

  it('with text held back for a stop string that never came', async () => {
    const { text } = await model.generate(prompt, { maxTokens: 8 }).result();
    const stop = `${text.slice(-1)}never`;
    const result = await model.generate(prompt, { maxTokens: 8, stop: [stop, 'x never'] }).result();
    expect(result.text).toBe(text);
    expect(result.finishReason).toBe('length');
  });
});

describe('sampling', () => {
  const options = { maxTokens: 24, temperature: 1, ignoreEos: true };
  it('repeats itself for a seed and not for another', async () => {
    const once = await tokensOf({ ...options, seed: 7 });
    expect(await tokensOf({ ...options, seed: 7 })).toEqual(once);
    expect(await tokensOf({ ...options, seed: 8 })).not.toEqual(once);
  });

  it('of one token is greedy', async () => {
    const greedy = await tokensOf();
    expect(await tokensOf({ ...options, topK: 1, seed: 3 })).toEqual(greedy);
    expect(await tokensOf({ ...options, topP: 0, seed: 3 })).toEqual(greedy);
    expect(await tokensOf({ temperature: 0 })).toEqual(greedy);
  });

  it('does not depend on what runs beside it', async () => {
    const alone = await tokensOf({ ...options, seed: 7 });
    const prompts = [prompt, [1, 2, 3], prompt.slice(4)];
    const [first] = await model.generateAll(prompts, { ...options, seed: 7 });
    expect(first?.tokens).toEqual(alone);
  });

  it('with a repetition penalty avoids what was said', async () => {
    const repeats = (tokens: readonly number[]) => tokens.length - new Set(tokens).size;
    const long = { maxTokens: 100 };
    const free = await tokensOf(long);
    const penalised = await tokensOf({ ...long, repetitionPenalty: 100 });
    expect(repeats(free)).toBeGreaterThan(0);
    expect(repeats(penalised)).toBeLessThan(repeats(free));
    expect(penalised.filter((t) => prompt.includes(t))).toEqual([]);
  });
});

describe('at the same time', () => {
  it('generations do not disturb each other', async () => {
    const prompts = [prompt, [1, 2, 3], [...prompt, ...prompt]];
    const options = { maxTokens: 16, ignoreEos: true };
    const alone: (readonly number[])[] = [];
    for (const p of prompts) alone.push((await model.generate(p, options).result()).tokens);
    const together = await Promise.all(prompts.map((p) => model.generate(p, options).result()));
    expect(together.map((r) => r.tokens)).toEqual(alone);
    const batch = await model.generateAll(prompts, options);
    expect(batch.map((r) => r.tokens)).toEqual(alone);
  });

  it('forward passes may run', async () => {
    const { logits } = await model.forward({ inputIds: [prompt] });
    const want = await logits.data();
    const [tokens, ...others] = await Promise.all([
      tokensOf(),
      ...Array.from({ length: 3 }, async () => (await model.forward({ inputIds: [prompt] })).logits.data()),
    ]);
    expect(tokens).toEqual(await tokensOf());
    for (const other of others) expect(other).toEqual(want);
  });
});

describe('is stopped', () => {
  const endless = { ignoreEos: true };
  const expectAllFree = () => expect(model.engine.cache.freeBlocks).toBe(model.engine.cache.blocks);

  it('by break, and gives its blocks back', async () => {
    let parts = 0;
    const generation = model.generate(prompt, endless);
    for await (const _ of generation) if (++parts === 3) break;
    expectAllFree();
    const result = await generation.result();
    expect(result.tokens).toHaveLength(3);
    expect(result.finishReason).toBe('abort');
  });

  it('by a signal, within one step', async () => {
    const abort = new AbortController();
    const generation = model.generate(prompt, { ...endless, signal: abort.signal });
    let parts = 0;
    const error = await rejection(async () => {
      for await (const _ of generation) if (++parts === 3) abort.abort(new Error('enough'));
    });
    expect(error.code).toBe('ERR_ABORTED');
    expect(error.cause).toMatchObject({ message: 'enough' });
    // The step that ran while the third part was handed out may have been complete.
    expect(parts).toBeLessThanOrEqual(4);
    expectAllFree();
    expect((await rejection(() => generation.result())).code).toBe('ERR_ABORTED');
  });

  it('by a signal while a long prompt is read', async () => {
    const long = await load({ contextLength: 2048, cacheTokens: 2048 });
    const text = Array.from({ length: 2000 }, (_, i) => i % 256);
    const run = long.generate(text, { signal: abortAtStep(long, 2) }).result();
    expect((await rejection(() => run)).code).toBe('ERR_ABORTED');
    expect(long.scheduler.statistics.steps).toBe(2);
    expect(long.engine.cache.freeBlocks).toBe(long.engine.cache.blocks);
    await long.dispose();
  });

  it('by a signal that was given before', async () => {
    const signal = AbortSignal.abort();
    expect((await rejection(() => model.generate(prompt, { signal }).result())).code).toBe('ERR_ABORTED');
    expect((await rejection(() => model.generateAll([prompt], { signal }))).code).toBe('ERR_ABORTED');
    expectAllFree();
  });

  it('in a batch', async () => {
    const run = model.generateAll([prompt, prompt], { ...endless, signal: abortAtStep(model, 5) });
    expect((await rejection(() => run)).code).toBe('ERR_ABORTED');
    expectAllFree();
  });

  it('and leaves no listener on the signal', async () => {
    const { signal } = new AbortController();
    await model.generate(prompt, { maxTokens: 2, signal }).result();
    for await (const _ of model.generate(prompt, { maxTokens: 4, signal })) break;
    expect(EventEmitter.getEventListeners(signal, 'abort')).toHaveLength(0);
  });
});

describe('is refused', () => {
  const full = Array.from({ length: CONTEXT }, () => 1);
  const cases: [string, string | number[], object, ErrorCode, RegExp][] = [
    ['a prompt as long as the context', full, {}, 'ERR_CONTEXT_LENGTH', /160 tokens.*160/],
    ['an empty prompt', [], {}, 'ERR_OPTION', /without tokens/],
    ['an id outside the vocabulary', [260], {}, 'ERR_OPTION', /token id 260.*259/],
    ['an id that is none', [1.5], {}, 'ERR_OPTION', /token id 1.5/],
    ['maxTokens below 0', [1], { maxTokens: -1 }, 'ERR_OPTION', /maxTokens -1/],
    ['maxTokens that is no number', [1], { maxTokens: Number.NaN }, 'ERR_OPTION', /maxTokens NaN/],
    ['a temperature below 0', [1], { temperature: -1 }, 'ERR_OPTION', /temperature -1/],
    ['topP above 1', [1], { topP: 1.5 }, 'ERR_OPTION', /topP 1.5/],
    ['topK that is no whole number', [1], { topK: 0.5 }, 'ERR_OPTION', /topK 0.5/],
    ['a repetition penalty of 0', [1], { repetitionPenalty: 0 }, 'ERR_OPTION', /repetitionPenalty 0/],
    ['a seed below 0', [1], { temperature: 1, seed: -1 }, 'ERR_OPTION', /seed -1/],
    ['an empty stop string', [1], { stop: '' }, 'ERR_OPTION', /stop/],
    ['a priority that is no number', [1], { priority: 'high' }, 'ERR_OPTION', /priority high/],
    ['a salt that is no text', [1], { cacheSalt: 3 }, 'ERR_OPTION', /cacheSalt 3/],
    ['a misspelt option', [1], { max_tokens: 3 }, 'ERR_OPTION', /max_tokens/],
  ];
  it.each(cases)('%s', async (_, input, options, code, message) => {
    const alone = await rejection(() => model.generate(input, options).result());
    expect(alone.code).toBe(code);
    expect(alone.message).toMatch(message);
    const batch = await rejection(() => model.generateAll([[1], input], options));
    expect(batch.code).toBe(code);
  });

  it.each([
    [{ contextLength: 0 }, /contextLength 0/],
    [{ cacheTokens: -1 }, /cacheTokens -1/],
    [{ contextLength: 2.5 }, /contextLength 2.5/],
    [{ threads: 0 }, /threads 0/],
    [{ dtype: 'f64' }, /dtype 'f64'/],
    [{ kvCache: 'int4' }, /kvCache 'int4', expected auto, f32, f16, bf16, int8/],
    [{ device: 'tpu' }, /device 'tpu'/],
    [{ contextlength: 3 }, /contextlength/],
  ])('loading with %j', async (options, message) => {
    const error = await rejection(() => loadLanguageModel(path, options as LoadModelOptions));
    expect(error.message).toMatch(message);
  });
});

describe('a cache of', () => {
  /** Logits that each new token is chosen from, when a fixed text is fed token after token behind the prompt. */
  async function logitsOf(kvCache: LoadModelOptions['kvCache']): Promise<Float32Array[]> {
    const m = await load({ kvCache });
    const sequence = m.engine.newSequence();
    const rows: Float32Array[] = [];
    for (const tokens of [prompt, ...[...Buffer.from(' what each token meets')].map((id) => [id])]) {
      const row = { sequence, tokens, sampling: new Sampling(samplers.greedy()) };
      rows.push((await m.engine.step([row], { logits: true })).logits as Float32Array);
    }
    await m.dispose();
    return rows;
  }
  const distance = (a: Float32Array[], b: Float32Array[]): number =>
    Math.max(...a.flatMap((row, i) => Array.from(row, (x, j) => Math.abs(x - (b[i] as Float32Array)[j]))));
  const size = (a: Float32Array[]): number => Math.max(...a.flatMap((row) => Array.from(row, Math.abs)));

  // Rounding a key or value by a share u of itself (of the row's largest number: int8) moves a score and a mixed value by
  // about as much. A layer adds its part; the tiny model has few layers, and logits of the size of their largest number.
  it.each([
    ['f16', 2 ** -11],
    ['bf16', 2 ** -8],
    ['int8', 1 / 254],
  ] as const)('%s stays within its rounding of f32, and is not f32', async (kvCache, unit) => {
    const [exact, rounded] = [await logitsOf('f32'), await logitsOf(kvCache)];
    const off = distance(rounded, exact) / size(exact);
    expect(off).toBeGreaterThan(0);
    expect(off).toBeLessThan(8 * unit);
  });

  it.each(['f32', 'f16', 'bf16', 'int8'] as const)('%s generates', async (kvCache) => {
    const m = await load({ kvCache });
    expect(m.kvCache).toBe(kvCache);
    const alone = await m.generate(prompt, { maxTokens: 40, ignoreEos: true }).result();
    expect(alone.tokens).toHaveLength(40);
    const [first] = await m.generateAll([prompt, [1, 2, 3]], { maxTokens: 40, ignoreEos: true });
    expect(first?.tokens).toEqual(alone.tokens);
    expect(first?.logprobs).toEqual(alone.logprobs);
    await m.dispose();
  });

  it('auto is f32 beside exact layers and f16 beside rounded ones', async () => {
    for (const [dtype, expected] of [
      ['f32', 'f32'],
      ['auto', 'f32'],
      ['bf16', 'f16'],
      ['int8', 'f16'],
    ] as const) {
      const m = await load({ dtype });
      expect([dtype, m.kvCache]).toEqual([dtype, expected]);
      await m.dispose();
    }
  });
});

describe('routing', () => {
  it('counts every token fed, in each sparse layer', async () => {
    const routed = await load({}, sparse);
    const result = await routed.generate(prompt, { maxTokens: 5, ignoreEos: true, routing: true }).result();
    const fed = prompt.length + 4;
    expect(result.routing).toHaveLength(2);
    for (const { tokensPerExpert } of result.routing ?? []) {
      expect(tokensPerExpert).toHaveLength(4);
      expect(tokensPerExpert.reduce((a, b) => a + b)).toBe(2 * fed);
    }
    const plain = await routed.generate(prompt, { maxTokens: 5, ignoreEos: true }).result();
    expect(plain.tokens).toEqual(result.tokens);
    expect(plain.routing).toBeUndefined();
    await routed.dispose();
  });
});

describe('dispose', () => {
  it('twice is fine, and any later use is refused', async () => {
    const other = await load();
    const waiting = other.generate(prompt, { maxTokens: 2 });
    await other.dispose();
    await other.dispose();
    for (const act of [
      () => other.generate(prompt).result(),
      () => other.generateAll([prompt]),
      () => other.forward({ inputIds: [prompt] }),
      () => other.upcycle({ nExperts: 2, topK: 1 }),
      () => waiting.result(),
    ]) {
      expect(await rejection(act)).toBeInstanceOf(DisposedError);
    }
  });

  it('during a generation ends it with a typed error', async () => {
    const other = await load();
    let parts = 0;
    const error = await rejection(async () => {
      for await (const _ of other.generate(prompt, { ignoreEos: true }))
        if (++parts === 3) await other.dispose();
    });
    expect(error).toBeInstanceOf(DisposedError);
    // two steps may have begun by then
    expect(parts).toBeLessThanOrEqual(5);
  });

  it('during forward passes lets them end or refuses them', async () => {
    const other = await load();
    const runs = Array.from({ length: 4 }, async () => {
      const { logits } = await other.forward({ inputIds: [prompt] });
      return logits.data();
    });
    await other.dispose();
    for (const run of await Promise.allSettled(runs))
      if (run.status === 'rejected') expect(run.reason).toBeInstanceOf(SwitchyardError);
  });

  it('of a model or its upcycled twin leaves the other whole', async () => {
    const dense = await load();
    const first = await dense.upcycle({ nExperts: 4, topK: 2 });
    const second = await first.generate(prompt, { maxTokens: 8 }).result();
    await dense.dispose();
    expect((await first.generate(prompt, { maxTokens: 8 }).result()).tokens).toEqual(second.tokens);
    await first.dispose();
  });
});
