import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { defineCase } from '../harness/case.js';
import { openBenchModel, promptOf } from '../harness/models.js';

/** The event loop must never stand still for longer. */
const GOAL_MS = 5;
const RESOLUTION_MS = 1;

export default defineCase({
  about: "the event loop's longest stall while a prompt is read and text is written; idle beside it",
  words: ['model', 'latency'],
  async run(bench) {
    const { options, emit } = bench;
    const { model, name } = await openBenchModel(bench, { contextLength: 2048 });
    // Lengths that were not met before: their programs are built while the event loop watches.
    const lengths = options.smoke ? [8] : [512, 300, 77, 410, 200, 130, 47, 350, 250, 450];
    const maxTokens = options.smoke ? 4 : 64;
    const longest = async (work: () => Promise<unknown>): Promise<number> => {
      const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
      delay.enable();
      await sleep(5);
      delay.reset();
      await work();
      await sleep(5);
      delay.disable();
      return Math.max(0, delay.max / 1e6 - RESOLUTION_MS);
    };
    const generate = async (length: number): Promise<void> => {
      const prompt = promptOf(model, length, length);
      for await (const _ of model.generate(prompt, { maxTokens, ignoreEos: true }));
    };
    const busy: number[] = [];
    const idle: number[] = [];
    for (const length of lengths) {
      const started = performance.now();
      busy.push(await longest(() => generate(length)));
      const time = performance.now() - started;
      idle.push(await longest(() => sleep(time)));
    }
    const shape = `${name}, ${Math.min(...lengths)} to ${Math.max(...lengths)} tokens and ${maxTokens} new`;
    emit({ metric: 'longest stall', shape, unit: 'ms', values: busy, limit: GOAL_MS, goal: true });
    emit({ metric: 'longest stall idle', shape: '', unit: 'ms', values: idle });
    await model.dispose();
  },
});
