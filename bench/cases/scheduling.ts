import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { defineCase } from '../harness/case.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { openBenchModel, promptOf } from '../harness/models.js';

const SEQUENCES = 16;
/** Tokens of a prompt, few: what is measured is the decoding of many. */
const DEPTH = 16;
const NEW_TOKENS = 33;
/** Times the tokens per second of one sequence that sixteen should reach together. */
const GOAL_TIMES = 3;
/** Of the time of sixteen sequences that scheduling, JavaScript and binding may take. */
const GOAL_PERCENT = 3;

export default defineCase({
  about:
    'sixteen generations beside one: how many times its tokens a second, and what scheduling takes of their time',
  words: ['model', 'generate', 'sequences', 'scheduler', 'speed'],
  async run(bench) {
    const { options, emit, device } = bench;
    const maxTokens = options.smoke ? 3 : NEW_TOKENS;
    const sequences = options.smoke ? 3 : SEQUENCES;
    const settings = { contextLength: 64, cacheTokens: 64 * sequences };
    const clocked = new ClockedDevice({ threads: device.threads });
    const { model, name } = await openBenchModel({ ...bench, device: clocked }, settings);
    const text = promptOf(model, DEPTH * sequences);
    const prompts = Array.from({ length: sequences }, (_, i) => text.slice(i * DEPTH, (i + 1) * DEPTH));
    const times: number[] = [];
    const shares: number[] = [];
    const warmups = options.smoke ? 0 : 2;
    for (let run = -warmups; run < options.runs; run++) {
      const one = await decoding(model, prompts.slice(0, 1), maxTokens);
      clocked.clear();
      const all = await decoding(model, prompts, maxTokens);
      const kernels = clocked.total;
      if (run < 0) continue;
      times.push(all.rate / one.rate);
      shares.push(Math.max(0, 100 * (1 - kernels / all.wholeMs)));
    }
    const shape = `${name}, ${sequences} generations`;
    const format = model.dtype;
    emit({
      metric: 'decode, times one',
      shape,
      format,
      unit: 'tokens/s × one',
      values: times,
      limit: GOAL_TIMES,
      goal: true,
    });
    emit({
      metric: 'scheduling',
      shape,
      format,
      unit: '%',
      values: shares,
      limit: GOAL_PERCENT,
      goal: true,
    });
    await model.dispose();
  },
});

/** Prompts and decoding by generate; tokens per second from the moment when all prompts have been read. */
async function decoding(
  model: LanguageModel,
  prompts: readonly (readonly number[])[],
  maxTokens: number,
): Promise<{ rate: number; wholeMs: number }> {
  model.engine.cache.pool.clear();
  const started = performance.now();
  let reading = prompts.length;
  let from = 0;
  await Promise.all(
    prompts.map(async (prompt) => {
      let made = 0;
      for await (const _ of model.generate(prompt, { maxTokens, ignoreEos: true }))
        if (made++ === 0 && --reading === 0) from = performance.now();
    }),
  );
  const end = performance.now();
  return { rate: (1000 * prompts.length * (maxTokens - 1)) / (end - from), wholeMs: end - started };
}
