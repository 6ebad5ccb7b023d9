import { type Bench, defineCase } from '../harness/case.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { openBenchModel, promptOf } from '../harness/models.js';

export default defineCase({
  about:
    'where the time of a model file goes: each kernel per decoded token and per prompt of 512, and what is between',
  words: ['model', 'profile'],
  async run(bench: Bench) {
    const { options, emit } = bench;
    const device = new ClockedDevice({ threads: options.threads });
    const { model, name } = await openBenchModel({ ...bench, device }, { contextLength: 2048 });
    const length = options.smoke ? 8 : 512;
    const newTokens = options.smoke ? 4 : 64;
    const prompt = promptOf(model, length);
    const phases = { prefill: new Map<string, number[]>(), decode: new Map<string, number[]>() };
    const note = (phase: keyof typeof phases, wall: number, per: number): void => {
      const add = (kernel: string, ms: number): void => {
        const values = phases[phase].get(kernel) ?? [];
        values.push((ms * 1000) / per);
        phases[phase].set(kernel, values);
      };
      for (const [kernel, { ms, calls }] of device.kernels) add(`${kernel} (${calls / per} calls)`, ms);
      add('between kernels', wall - device.total);
      device.kernels.clear();
    };
    for (let run = options.smoke ? 0 : -1; run < options.runs; run++) {
      device.kernels.clear();
      const generation = model.generate(prompt, { maxTokens: newTokens + 1, ignoreEos: true });
      let start = performance.now();
      let seen = 0;
      for await (const _ of generation) {
        if (seen++ > 0) continue;
        // The first decode step may already run; its kernels are counted when it ends.
        if (run >= 0) note('prefill', performance.now() - start, 1);
        device.kernels.clear();
        start = performance.now();
      }
      if (run >= 0) note('decode', performance.now() - start, newTokens);
    }
    for (const [phase, kernels] of Object.entries(phases)) {
      const shape = phase === 'decode' ? `${name}, a token after ${length}` : `${name}, ${length} tokens`;
      const byTime = [...kernels].sort(([, a], [, b]) => Math.max(...b) - Math.max(...a));
      for (const [kernel, values] of byTime)
        emit({ metric: `${phase} ${kernel}`, shape, format: model.dtype, unit: 'µs', values });
    }
    await model.dispose();
  },
});
