import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { defineCase } from '../harness/case.js';
import { nameOf, promptOf, tinyModel } from '../harness/models.js';

/** Milliseconds until a model of 4 GB is ready, once its packed file is there. */
const GOAL_MS = 200;

export default defineCase({
  about: 'milliseconds until a model is ready from its packed file, and until its first token is there',
  words: ['model', 'load'],
  async run({ options, device, emit }) {
    const path = options.smoke ? null : options.model;
    const shape = path === null ? 'tiny' : nameOf(path);
    // Beside the model's own place the disk may be another one: the system's temporary folder is where users start.
    const folder = mkdtempSync(join(tmpdir(), 'switchyard-bench-'));
    const file = join(folder, 'model.switchyard');
    try {
      const source = path === null ? await tinyModel(device) : await loadLanguageModel(path, { device });
      const started = performance.now();
      await source.save(file);
      emit({ metric: 'write packed file', shape, unit: 'ms', values: [performance.now() - started] });
      await source.dispose();
      const starts: number[] = [];
      const firstTokens: number[] = [];
      for (let run = 0; run < options.runs; run++) {
        const start = performance.now();
        await using model = await loadLanguageModel(file, { device });
        starts.push(performance.now() - start);
        // With the tokenizer, which is built for the first text.
        await model.generate(promptOf(model, 8), { maxTokens: 1, ignoreEos: true }).result();
        firstTokens.push(performance.now() - start);
      }
      emit({ metric: 'second start', shape, unit: 'ms', values: starts, limit: GOAL_MS, goal: true });
      emit({ metric: 'second start to the first token', shape, unit: 'ms', values: firstTokens });
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
});
