import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import type { Decoder } from '../../src/models/decoder/decoder.js';
import { weightsOf } from '../../src/models/parts.js';
import { loadDecoder, openModel } from '../../src/models/read/load.js';
import { defineCase } from '../harness/case.js';
import { peakMemory, resetPeakMemory } from '../harness/memory.js';
import { nameOf, tinyModel } from '../harness/models.js';

/** Peak memory of a load, against the packed weights. */
const GOAL_SHARE = 1.15;

export default defineCase({
  about: 'milliseconds until a model file is ready, and peak memory against its packed weights',
  words: ['model', 'memory'],
  async run({ options, device, emit }) {
    const path = options.smoke ? null : options.model;
    const shape = path === null ? 'tiny' : nameOf(path);
    if (path !== null) {
      // Weights alone, and first of all: memory that an earlier load gave back would be counted as there before.
      const files = openModel(path);
      resetPeakMemory();
      const before = process.memoryUsage.rss();
      const decoder = await loadDecoder(files, { device, contextLength: 2048 });
      const peak = (peakMemory() - before) / 2 ** 20;
      const packed = packedMiB(decoder);
      for (const w of weightsOf(decoder)) device.addon.disposeWeight(w.native);
      emit({ metric: 'packed weights', shape, unit: 'MiB', values: [packed] });
      emit({
        metric: 'peak memory of weights',
        shape,
        unit: 'MiB',
        values: [peak],
        limit: GOAL_SHARE * packed,
        goal: true,
      });
    }
    const times: number[] = [];
    const peaks: number[] = [];
    for (let run = 0; run < options.runs; run++) {
      resetPeakMemory();
      const before = process.memoryUsage.rss();
      const start = performance.now();
      const model = path === null ? await tinyModel(device) : await loadLanguageModel(path, { device });
      times.push(performance.now() - start);
      peaks.push((peakMemory() - before) / 2 ** 20);
      await model.dispose();
    }
    emit({ metric: 'load', shape, unit: 'ms', values: times });
    // With tokenizer, cache and programs; only the first run starts without their memory.
    emit({ metric: 'peak memory of all', shape, unit: 'MiB', values: peaks.slice(0, 1) });
  },
});

const packedMiB = (decoder: Decoder): number =>
  weightsOf(decoder).reduce((sum, w) => sum + w.bytes, 0) / 2 ** 20;
