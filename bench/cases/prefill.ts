import type { Bench } from '../harness/case.js';
import { defineCase } from '../harness/case.js';
import { contest, converted } from '../harness/contest.js';
import { leastTime, workOfPrompt } from '../harness/cost.js';
import { contestants, startModelPeers } from '../harness/model-peers.js';
import { openBenchModel, promptOf } from '../harness/models.js';

const LENGTHS = [32, 512];

export default defineCase({
  about: 'prompt tokens per second of a model file: share of the floor of its linear layers',
  words: ['model', 'prompt', 'speed', 'peers'],
  async run(bench: Bench) {
    const { options, limits, emit, note } = bench;
    const { model, name, path } = await openBenchModel(bench, { contextLength: 2048 });
    const peers = await startModelPeers(options, path, note);
    let turn = 0;
    try {
      for (const length of options.smoke ? [8] : LENGTHS) {
        const prompt = (): number[] => promptOf(model, length, turn++);
        const ours = async (): Promise<number> => {
          const generation = model.generate(prompt(), { maxTokens: 1, ignoreEos: true });
          for await (const _ of generation);
          return (await generation.result()).timings.promptMs;
        };
        const { ours: us, peers: theirs } = await contest(
          bench,
          ours,
          contestants(peers, (peer) => peer.prefill(prompt())),
          ['read', model.dtype],
        );
        const rate = (ms: number): number => (1000 * length) / ms;
        emit({
          metric: 'prefill',
          shape: `${name}, ${length} tokens`,
          format: model.dtype,
          unit: 'tokens/s',
          values: us.map(rate),
          limit: rate(await leastTime(limits, workOfPrompt(model.decoder, length), model.dtype)),
          peers: converted(theirs, rate),
        });
      }
    } finally {
      for (const peer of peers) peer.stop();
      await model.dispose();
    }
  },
});
