import type { Bench } from '../harness/case.js';
import { defineCase } from '../harness/case.js';
import { contest, converted } from '../harness/contest.js';
import { keysOfStep, workOfStep } from '../harness/cost.js';
import { contestants, startModelPeers } from '../harness/model-peers.js';
import { openBenchModel, promptOf } from '../harness/models.js';

/** Tokens before the first new one: an empty cache, and one that attention has to walk. */
const DEPTHS = [16, 512];
const NEW_TOKENS = 65;

export default defineCase({
  about:
    'tokens per second of a model file, one sequence: share of the bandwidth at which weights, keys and values can be read',
  words: ['model', 'generate', 'speed', 'peers'],
  async run(bench: Bench) {
    const { options, limits, emit, note } = bench;
    const { model, name, path } = await openBenchModel(bench, { contextLength: 2048 });
    const peers = await startModelPeers(options, path, note);
    const { bytes } = workOfStep(model.decoder, 1);
    const newTokens = options.smoke ? 4 : NEW_TOKENS;
    try {
      for (const depth of options.smoke ? [8] : DEPTHS) {
        const prompt = promptOf(model, depth);
        const ours = async (): Promise<number> => {
          const generation = model.generate(prompt, { maxTokens: newTokens, ignoreEos: true });
          for await (const _ of generation);
          return (await generation.result()).timings.decodeMs / (newTokens - 1);
        };
        const { ours: us, peers: theirs } = await contest(
          bench,
          ours,
          contestants(peers, async (peer) => (await peer.decode(prompt, newTokens)) / (newTokens - 1)),
          ['read'],
        );
        const keys = keysOfStep(model.decoder, model.kvCache, depth + newTokens / 2);
        const rate = (ms: number): number => 1000 / ms;
        emit({
          metric: 'decode',
          shape: `${name}, after ${depth} tokens`,
          format: model.dtype,
          unit: 'tokens/s',
          values: us.map(rate),
          limit: (await limits.bandwidth()) / (bytes + keys),
          peers: converted(theirs, rate),
        });
      }
    } finally {
      for (const peer of peers) peer.stop();
      await model.dispose();
    }
  },
});
