import { defineCase } from '../harness/case.js';
import { openBenchModel, promptOf } from '../harness/models.js';
import { plural } from '../harness/report.js';

const REQUESTS = 64;
const PREFIX = 400;
/** Tokens of each request behind the common ones, and new ones. */
const OWN = 8;
const NEW_TOKENS = 4;
const GOAL_TIMES = 4;
/** Without sharing a model of billions reads for a minute. */
const RUNS = 3;

export default defineCase({
  about:
    'requests with a common beginning at the same time: how many times faster than without sharing its blocks',
  words: ['model', 'generate', 'sequences', 'scheduler', 'cache', 'speed'],
  async run(bench) {
    const { options, emit } = bench;
    const requests = options.smoke ? 3 : REQUESTS;
    const settings = { contextLength: 512, cacheTokens: 512 * requests };
    const { model, name } = await openBenchModel(bench, settings);
    const text = promptOf(model, PREFIX + OWN * requests);
    const prompts = Array.from({ length: requests }, (_, i) => [
      ...text.slice(0, PREFIX),
      ...text.slice(PREFIX + i * OWN, PREFIX + (i + 1) * OWN),
    ]);
    const seconds = async (cacheSalt: string | null): Promise<number> => {
      model.engine.cache.pool.clear();
      const started = performance.now();
      await model.generateAll(prompts, { maxTokens: NEW_TOKENS, ignoreEos: true, cacheSalt });
      return (performance.now() - started) / 1000;
    };
    const shared: number[] = [];
    const alone: number[] = [];
    for (let run = 0; run < Math.min(options.runs, RUNS); run++) {
      if (run === 0) await seconds(''); // builds programs
      shared.push(await seconds(''));
      alone.push(await seconds(null));
    }
    const shape = `${name}, ${plural(requests, 'request')}, ${PREFIX} tokens in common`;
    const format = model.dtype;
    const times = shared.map((s, i) => (alone[i] as number) / s);
    emit({ metric: 'shared', shape, format, unit: 's', values: shared });
    emit({ metric: 'not shared', shape, format, unit: 's', values: alone });
    emit({
      metric: 'times faster',
      shape,
      format,
      unit: '× without',
      values: times,
      limit: GOAL_TIMES,
      goal: true,
    });
    await model.dispose();
  },
});
