// The same bits, however a sequence is computed: on its own or in a batch, with any number of threads, in chunks or whole.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { device } from '../../src/core/device.js';
import type { Tier } from '../../src/core/env.js';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../src/generate/handles/load-options.js';
import { samplers } from '../../src/generate/samplers/index.js';
import { Sampling } from '../../src/generate/steps/sampling.js';
import { MAX_CHUNK } from '../../src/generate/steps/step-inputs.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { generator } from '../helpers/random.js';
import { TINY_VOCABULARY, tinyGguf, writeTinyFolder } from '../helpers/tiny-model.js';
import { distance, expectSame } from '../parity/compare.js';

const STEPS = 8;
const folder = temporaryFolder();
const models = {
  dense: join(folder, 'dense'),
  sparse: join(folder, 'sparse'),
  denseQ4: join(folder, 'dense.gguf'),
  sparseQ8: join(folder, 'sparse.gguf'),
};
beforeAll(async () => {
  await writeTinyFolder(models.dense, { eosId: null });
  await writeTinyFolder(models.sparse, { nExperts: 8, eosId: null, window: 24 });
  writeFileSync(models.denseQ4, tinyGguf('q4_1', { eosId: null }));
  writeFileSync(models.sparseQ8, tinyGguf('q8_0', { nExperts: 8, eosId: null }));
});

const cases = [
  { title: 'dense, exact', file: models.dense, dtype: 'f32', kvCache: 'f32' },
  { title: 'sparse with a window, exact', file: models.sparse, dtype: 'f32', kvCache: 'f32' },
  { title: 'sparse with a window, cache of int8', file: models.sparse, dtype: 'f32', kvCache: 'int8' },
  { title: 'dense, quantised, exact', file: models.denseQ4, dtype: 'f32', kvCache: 'f32' },
  { title: 'dense, quantised, fast', file: models.denseQ4, dtype: 'auto', kvCache: 'f32' },
  { title: 'dense, quantised, fast, cache of f16', file: models.denseQ4, dtype: 'auto', kvCache: 'auto' },
  { title: 'sparse, quantised, exact', file: models.sparseQ8, dtype: 'f32', kvCache: 'f32' },
  { title: 'sparse, quantised, fast', file: models.sparseQ8, dtype: 'auto', kvCache: 'f32' },
  { title: 'sparse, quantised, fast, cache of bf16', file: models.sparseQ8, dtype: 'auto', kvCache: 'bf16' },
] as const;

const open: LanguageModel[] = [];
async function load(file: string, options: LoadModelOptions): Promise<LanguageModel> {
  const model = await loadLanguageModel(file, options);
  open.push(model);
  return model;
}
afterAll(() => Promise.all(open.map((model) => model.dispose())));

const next = generator(5);
const ids = (n: number): number[] => Array.from({ length: n }, () => Math.floor(next() * 256));
/** Seven prompts of lengths around those at which blocks, panels and padding change. */
const prompts = [1, 7, 16, 33, 64, 90, 3].map(ids);

/** Logits behind each new token of each prompt, all prompts in one batch: one array for each prompt. */
async function continueAll(
  model: LanguageModel,
  batch: readonly (readonly number[])[],
  steps = STEPS,
): Promise<Float32Array[]> {
  const sampling = new Sampling(samplers.greedy());
  const sequences = batch.map(() => model.engine.newSequence());
  const logits = batch.map(() => new Float32Array(steps * TINY_VOCABULARY));
  let fed = batch;
  for (let n = 0; n < steps; n++) {
    const rows = fed.map((tokens, b) => {
      const sequence = sequences[b] as (typeof sequences)[number];
      return { sequence, tokens, sampling };
    });
    const out = await model.engine.step(rows, { logits: true });
    logits.forEach((all, b) => {
      const at = b * TINY_VOCABULARY;
      all.set(out.logits?.subarray(at, at + TINY_VOCABULARY) as Float32Array, n * TINY_VOCABULARY);
    });
    fed = out.results.map(({ token }) => [token]);
  }
  for (const s of sequences) s.release();
  return logits;
}

describe.each(cases)('$title', ({ file, dtype, kvCache }) => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await load(file, { dtype, kvCache, threads: 2 });
  });

  it('alone and inside a ragged batch of seven: prompts and decode steps', async () => {
    const together = await continueAll(model, prompts);
    for (const [b, prompt] of prompts.entries()) {
      const [alone] = await continueAll(model, [prompt]);
      expectSame(
        `prompt ${b} of ${prompt.length} tokens`,
        together[b] as Float32Array,
        alone as Float32Array,
      );
    }
  });

  it('alone and in a padded batch of forward passes, padded on either side', async () => {
    const longest = Math.max(...prompts.map((p) => p.length));
    const pad = (p: readonly number[], left: boolean, value: (id: number) => number, fill = 0): number[] => {
      const padding = new Array<number>(longest - p.length).fill(fill);
      return left ? [...padding, ...p.map(value)] : [...p.map(value), ...padding];
    };
    const whole: Float32Array[] = [];
    for (const prompt of prompts)
      whole.push((await (await model.forward({ inputIds: [prompt] })).logits.data()) as Float32Array);
    for (const left of [false, true]) {
      const { logits } = await model.forward({
        inputIds: prompts.map((p) => pad(p, left, (id) => id, 9)),
        attentionMask: prompts.map((p) => pad(p, left, () => 1)),
      });
      const all = (await logits.data()) as Float32Array;
      for (const [b, prompt] of prompts.entries()) {
        const from = (b * longest + (left ? longest - prompt.length : 0)) * TINY_VOCABULARY;
        const row = all.subarray(from, from + prompt.length * TINY_VOCABULARY);
        expectSame(`row ${b}, padded ${left ? 'left' : 'right'}`, row, whole[b] as Float32Array);
      }
    }
  });

  it.runIf(kvCache === 'f32')('with a cache and without', async () => {
    const prompt = prompts[3] as number[];
    const [cached] = await continueAll(model, [prompt]);
    const tokens = [...prompt];
    for (let n = 0; n < STEPS; n++) {
      const { logits } = await model.forward({ inputIds: [tokens] });
      const last = ((await logits.data()) as Float32Array).slice(-TINY_VOCABULARY);
      const step = (cached as Float32Array).subarray(n * TINY_VOCABULARY, (n + 1) * TINY_VOCABULARY);
      expectSame(`step ${n}`, step, last);
      tokens.push(last.indexOf(last.reduce((a, b) => Math.max(a, b), -Infinity)));
    }
  });

  it('with 1, 2 and 4 threads', async () => {
    const two = await continueAll(model, prompts);
    for (const threads of [1, 4]) {
      const other = await continueAll(await load(file, { dtype, kvCache, threads }), prompts);
      for (const [b, logits] of two.entries())
        expectSame(`prompt ${b} with ${threads} threads`, other[b] as Float32Array, logits);
    }
  });

  it('a prompt of several chunks, and the same in pieces of another size', async () => {
    const prompt = ids(MAX_CHUNK + 61);
    const sequence = model.engine.newSequence();
    const greedy = new Sampling(samplers.greedy());
    const row = { sequence, tokens: prompt, sampling: greedy };
    const whole = (await model.engine.step([row], { logits: true })).logits as Float32Array;
    sequence.release();
    if (kvCache === 'f32') {
      const { logits } = await model.forward({ inputIds: [prompt] });
      expectSame('without a cache', whole, ((await logits.data()) as Float32Array).slice(-TINY_VOCABULARY));
    }
    const best = whole.indexOf(whole.reduce((a, b) => Math.max(a, b), -Infinity));
    const { tokens, logprobs } = await model.generate(prompt, { maxTokens: 2 }).result();
    expect(tokens[0]).toBe(best);
    const [together] = await model.generateAll([prompt, prompts[1] as number[]], { maxTokens: 2 });
    expect({ tokens: together?.tokens, logprobs: together?.logprobs }).toEqual({ tokens, logprobs });

    let last: Float32Array | null = null;
    for (let at = 0; at < prompt.length; at += 100) {
      const part = prompt.slice(at, at + 100);
      const sampling = at + 100 >= prompt.length ? greedy : null;
      last = (await model.engine.step([{ sequence, tokens: part, sampling }], { logits: true })).logits;
    }
    sequence.release();
    expectSame('pieces of 100', last as Float32Array, whole);
  });

  it('every tier is close to the scalar one', async () => {
    const { tiers } = device().addon.deviceInfo();
    const scalar = await continueAll(
      await load(file, { dtype, kvCache, device: device({ isa: 'scalar' }) }),
      prompts,
      1,
    );
    for (const isa of tiers.filter((t) => t !== 'scalar')) {
      const other = await load(file, { dtype, kvCache, device: device({ isa: isa as Tier }) });
      const logits = await continueAll(other, prompts, 1);
      for (const [b, want] of scalar.entries()) {
        // Rounded activations may fall to the other side of a step.
        const tolerance = other.dtype === 'f32' ? 1e-4 : 5e-2;
        expect(distance(logits[b] as Float32Array, want), `${isa}, prompt ${b}`).toBeLessThanOrEqual(
          tolerance,
        );
      }
    }
  });
});

it('the batch of the tests is ragged, and its prompts lead to different texts', async () => {
  const model = await load(models.dense, { dtype: 'f32' });
  const texts = await model.generateAll(prompts, { maxTokens: 8 });
  expect(new Set(texts.map(({ tokens }) => tokens.join(' '))).size).toBe(prompts.length);
});
