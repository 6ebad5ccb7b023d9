import { LanguageModel } from '../../src/generate/handles/language-model.js';
import { type Bench, defineCase } from '../harness/case.js';
import { ClockedDevice } from '../harness/kernel-clock.js';
import { openBenchModel, promptOf } from '../harness/models.js';
import { summarize } from '../harness/statistics.js';

export default defineCase({
  about:
    'where the time of a model file goes: each kernel per decoded token and per prompt of 512, and what is between',
  words: ['model', 'profile'],
  async run(bench: Bench) {
    const { options, emit } = bench;
    const { model, name } = await openBenchModel(bench, { contextLength: 2048 });
    // The same weights again, on a device that times kernels; what is between them is told by the plain one.
    const device = new ClockedDevice({ threads: options.threads });
    const clocked = new LanguageModel(model.decoder, model.tokenizer, { ...model.settings, device });
    const length = options.smoke ? 8 : 512;
    const newTokens = options.smoke ? 4 : 64;
    const phases: Record<Phase, Map<string, number[]>> = { prefill: new Map(), decode: new Map() };
    const add = (phase: Phase, kernel: string, microseconds: number): void => {
      phases[phase].set(kernel, [...(phases[phase].get(kernel) ?? []), microseconds]);
    };
    for (let run = options.smoke ? 0 : -1; run < options.runs; run++) {
      const prompt = promptOf(model, length, run + 1);
      const wall = await generate(model, prompt, newTokens, () => undefined);
      const inKernels = { prefill: 0, decode: 0 };
      const take = (phase: Phase, steps: number): void => {
        inKernels[phase] = (device.total * 1000) / steps;
        for (const [kernel, { ms, calls }] of device.kernels)
          if (run >= 0) add(phase, `${kernel} (${Math.round(calls / steps)} calls)`, (ms * 1000) / steps);
        device.clear();
      };
      device.clear();
      await generate(clocked, prompt, newTokens, () => take('prefill', 1));
      take('decode', newTokens);
      if (run < 0) continue;
      for (const phase of ['prefill', 'decode'] as const)
        add(phase, 'between kernels', Math.max(0, wall[phase] - inKernels[phase]));
    }
    for (const [phase, kernels] of Object.entries(phases)) {
      const shape = phase === 'decode' ? `${name}, a token after ${length}` : `${name}, ${length} tokens`;
      const byTime = [...kernels].sort(([, a], [, b]) => summarize(b).median - summarize(a).median);
      for (const [kernel, values] of byTime)
        emit({ metric: `${phase} ${kernel}`, shape, format: model.dtype, unit: 'µs', values });
    }
    await clocked.dispose();
    await model.dispose();
  },
});

type Phase = 'prefill' | 'decode';

/** Microseconds of the prompt and of each new token after the first; `first` is called between. */
async function generate(
  model: LanguageModel,
  prompt: readonly number[],
  newTokens: number,
  first: () => void,
): Promise<Record<Phase, number>> {
  const generation = model.generate(prompt, { maxTokens: newTokens + 1, ignoreEos: true });
  let seen = 0;
  // The next step may already run when a token comes; what it has traced is taken when it ends.
  for await (const _ of generation) if (seen++ === 0) first();
  const { promptMs, decodeMs } = (await generation.result()).timings;
  return { prefill: promptMs * 1000, decode: (decodeMs * 1000) / newTokens };
}
