import type { Bench } from '../harness/case.js';
import { defineCase } from '../harness/case.js';
import { interleave } from '../harness/measure.js';
import { costOfToken, openBenchModel, promptOf } from '../harness/models.js';
import { Peer } from '../harness/peer.js';

/** Tokens before the first new one: an empty cache, and one that attention has to walk. */
const DEPTHS = [16, 512];
const NEW_TOKENS = 65;

export default defineCase({
  about:
    'tokens per second of a model file, one sequence: share of the bandwidth at which its weights can be read',
  words: ['model', 'generate', 'speed'],
  async run(bench: Bench) {
    const { options, limits, emit, note } = bench;
    const { model, name, path } = await openBenchModel(bench, { contextLength: 2048 });
    const peer = await Peer.start(options, path, note);
    const { bytes } = costOfToken(model.decoder);
    const limit = (await limits.bandwidth()) / bytes;
    const newTokens = options.smoke ? 4 : NEW_TOKENS;
    try {
      for (const depth of options.smoke ? [8] : DEPTHS) {
        const prompt = promptOf(model, depth);
        const ours = async (): Promise<number> => {
          const generation = model.generate(prompt, { maxTokens: newTokens, ignoreEos: true });
          for await (const _ of generation);
          return (await generation.result()).timings.decodeMs / (newTokens - 1);
        };
        const theirs = async (): Promise<number> =>
          ((await peer?.ask({ prompt, newTokens }))?.decodeMs ?? 0) / (newTokens - 1);
        const [us, them] = await interleave(options, peer ? [ours, theirs] : [ours]);
        const rate = (times: readonly number[]): number[] => times.map((ms) => 1000 / ms);
        emit({
          metric: 'decode',
          shape: `${name}, after ${depth} tokens`,
          format: model.dtype,
          unit: 'tokens/s',
          values: rate(us as number[]),
          limit,
          peer: peer && them ? { name: peer.name, values: rate(them) } : null,
        });
      }
    } finally {
      peer?.stop();
      await model.dispose();
    }
  },
});
