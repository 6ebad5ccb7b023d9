import type { Bench } from '../harness/case.js';
import { defineCase } from '../harness/case.js';
import { interleave } from '../harness/measure.js';
import { costOfToken, openBenchModel, promptOf } from '../harness/models.js';
import { Peer } from '../harness/peer.js';

const LENGTHS = [32, 512];

export default defineCase({
  about: 'prompt tokens per second of a model file: share of the arithmetic of its linear layers',
  words: ['model', 'prompt', 'speed'],
  async run(bench: Bench) {
    const { options, limits, emit, note } = bench;
    const { model, name, path } = await openBenchModel(bench, { contextLength: 2048 });
    const peer = await Peer.start(options, path, note);
    const { values, headValues } = costOfToken(model.decoder);
    const operations = await limits.operations(model.dtype);
    try {
      for (const length of options.smoke ? [8] : LENGTHS) {
        const prompt = promptOf(model, length);
        const ours = async (): Promise<number> => {
          const generation = model.generate(prompt, { maxTokens: 1, ignoreEos: true });
          for await (const _ of generation);
          return (await generation.result()).timings.promptMs;
        };
        const theirs = async (): Promise<number> =>
          (await peer?.ask({ prompt, newTokens: 0 }))?.prefillMs ?? 0;
        const [us, them] = await interleave(options, peer ? [ours, theirs] : [ours]);
        const rate = (times: readonly number[]): number[] => times.map((ms) => (1000 * length) / ms);
        // Only the last token meets the head.
        const work = 2 * (values - headValues + headValues / length);
        emit({
          metric: 'prefill',
          shape: `${name}, ${length} tokens`,
          format: model.dtype,
          unit: 'tokens/s',
          values: rate(us as number[]),
          limit: operations && operations / work,
          peer: peer && them ? { name: peer.name, values: rate(them) } : null,
        });
      }
    } finally {
      peer?.stop();
      await model.dispose();
    }
  },
});
