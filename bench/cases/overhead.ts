import { defineCase } from '../harness/case.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { tinyModel } from '../harness/models.js';

const TOKENS = 400;
/** JavaScript, binding and scheduling may cost this much a token. */
const GOAL_MICROSECONDS = 50;

export default defineCase({
  about:
    'what a token costs beside the kernels: JavaScript, binding, scheduling, on a model of one tiny layer',
  words: ['javascript', 'speed'],
  async run({ options, device, emit }) {
    const tokens = options.smoke ? 8 : TOKENS;
    const clocked = new ClockedDevice({ threads: device.threads });
    const model = await tinyModel(device);
    const timed = await tinyModel(clocked);
    const perToken = async (on: typeof model): Promise<number> => {
      const generation = on.generate([1, 2, 3], { maxTokens: tokens + 1, ignoreEos: true });
      let start = 0;
      for await (const _ of generation) start ||= performance.now();
      return ((performance.now() - start) * 1000) / tokens;
    };
    const all: number[] = [];
    const kernels: number[] = [];
    const between: number[] = [];
    // The first runs are slow until the engine's JavaScript is compiled.
    for (let run = options.smoke ? 0 : -3; run < options.runs; run++) {
      const whole = await perToken(model);
      clocked.clear();
      await perToken(timed);
      const inKernels = (clocked.total * 1000) / (tokens + 1);
      if (run < 0) continue;
      all.push(whole);
      kernels.push(inKernels);
      between.push(Math.max(0, whole - inKernels));
    }
    const shape = 'one layer of width 64';
    emit({ metric: 'token', shape, unit: 'µs', values: all });
    emit({ metric: 'in kernels', shape, unit: 'µs', values: kernels });
    emit({ metric: 'overhead', shape, unit: 'µs', values: between, limit: GOAL_MICROSECONDS, goal: true });
    await model.dispose();
    await timed.dispose();
  },
});
