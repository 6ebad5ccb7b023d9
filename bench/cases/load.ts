import { readFileSync, writeFileSync } from 'node:fs';
import { loadModel } from '../../src/generate/language-model.js';
import { weightsOf } from '../../src/models/load.js';
import { defineCase } from '../harness/case.js';
import { nameOf, tinyModel } from '../harness/models.js';

/** Peak memory of a load, against the packed weights. */
const GOAL_SHARE = 1.15;

/** Resident bytes: the most since `reset`, where the system counts it; else the most since the process began. */
const memory = {
  reset(): void {
    try {
      writeFileSync('/proc/self/clear_refs', '5');
    } catch {}
  },
  peak(): number {
    try {
      const [, kib] = /VmHWM:\s+(\d+) kB/.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
      if (kib) return Number(kib) * 1024;
    } catch {}
    return process.resourceUsage().maxRSS * 1024;
  },
};

export default defineCase({
  about: 'milliseconds until a model file is ready, and peak memory against its packed weights',
  words: ['model', 'memory'],
  async run({ options, device, emit, note }) {
    const path = options.smoke ? null : options.model;
    const times: number[] = [];
    const peaks: number[] = [];
    let packed = 0;
    for (let run = 0; run < options.runs; run++) {
      memory.reset();
      const before = process.memoryUsage.rss();
      const start = performance.now();
      const model = path === null ? await tinyModel(device) : await loadModel(path, { device });
      times.push(performance.now() - start);
      peaks.push((memory.peak() - before) / 2 ** 20);
      packed = weightsOf(model.decoder).reduce((sum, w) => sum + w.bytes, 0) / 2 ** 20;
      await model.dispose();
    }
    const shape = path === null ? 'tiny' : nameOf(path);
    emit({ metric: 'load', shape, unit: 'ms', values: times });
    emit({ metric: 'packed weights', shape, unit: 'MiB', values: [packed] });
    // Memory that earlier runs gave back may be counted before; the first run is the honest one.
    const limit = path === null ? null : GOAL_SHARE * packed;
    emit({ metric: 'peak memory', shape, unit: 'MiB', values: peaks.slice(0, 1), limit });
    if (path !== null) note('peak memory includes the tokenizer, the key-value cache and compiled programs');
  },
});
