// Beam search against the library's: ids exactly, scores to 1e-4 · max(1, |score|), each row alone and all rows at once.
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AnyModel, loadModel } from '../../src/generate/handles/load-model.js';
import { fixturesFolder } from '../helpers/fixtures.js';
import { expectTwins } from './compare.js';
import { type BeamRun, beamRowsOf, type Expected, type ExpectedInput } from './expected.js';
import { ofKind, readJson } from './folders.js';
import { reasonFor } from './not-yet.js';

const TOLERANCE = 1e-4;

const folders = [...ofKind('model'), ...ofKind('gguf')].flatMap(({ kind, path, name }) => {
  const expected: Expected = readJson(join(path, 'expected.json'));
  const excuse =
    kind === 'gguf'
      ? reasonFor('architectures', String(expected.architecture))
      : reasonFor('modelTypes', String(readJson(join(path, 'config.json')).model_type));
  const runs = expected.beam ?? [];
  if (excuse !== undefined || runs.length === 0) return []; // models.test.ts says so
  return [{ name, file: kind === 'gguf' ? join(path, 'model.gguf') : path, expected, runs }];
});

const optionsOf = (run: BeamRun) => ({
  maxTokens: run.max_new_tokens,
  ignoreEos: true,
  stopTokens: [run.eos_token_id ?? []].flat(),
  beams: {
    beams: run.num_beams,
    returned: run.num_return_sequences,
    lengthPenalty: run.length_penalty,
    earlyStopping: run.early_stopping,
  },
});

describe.skipIf(fixturesFolder === undefined)('reference beams', () => {
  it('are there', () => expect(folders.length).toBeGreaterThan(0));

  describe.each(folders)('$name', ({ file, expected, runs }) => {
    let model: Exclude<AnyModel, { kind: 'encoder' }>;
    beforeAll(async () => {
      const loaded = await loadModel(file, { dtype: 'f32', cacheTokens: 4096 });
      if (loaded.kind === 'encoder') throw new Error(`${file} is an encoder`);
      model = loaded;
    });
    afterAll(() => model?.dispose());

    const cases = runs.map((run, i) => ({
      run,
      title: `${i}: ${run.input}, early stopping ${run.early_stopping}, length penalty ${run.length_penalty}`,
    }));
    it.each(cases)('$title', async ({ run }) => {
      const rows = beamRowsOf(run, expected.inputs[run.input] as ExpectedInput);
      const prompts = rows.map((row) => row.prompt);
      const options = optionsOf(run);
      const results = await model.generateAll(prompts, options);
      for (const [b, { paths }] of rows.entries()) {
        const { hypotheses = [], tokens, text } = results[b] as (typeof results)[number];
        expect(hypotheses.map((h) => h.tokens)).toEqual(paths.map((p) => p.tokens));
        for (const [i, { score }] of paths.entries()) {
          const off = Math.abs((hypotheses[i]?.score as number) - score);
          expect(off).toBeLessThanOrEqual(TOLERANCE * Math.max(1, Math.abs(score)));
        }
        expect({ tokens, text }).toEqual({ tokens: hypotheses[0]?.tokens, text: hypotheses[0]?.text });
        const alone = await model.generate(prompts[b] as number[], options).result();
        const found = alone.hypotheses ?? [];
        expect(found.map((h) => h.tokens)).toEqual(hypotheses.map((h) => h.tokens));
        for (const [i, { score, logprobs }] of hypotheses.entries())
          expectTwins(
            'scores',
            [found[i]?.score ?? Number.NaN, ...(found[i]?.logprobs ?? [])],
            [score, ...logprobs],
          );
      }
      const { cache, memory } = model.engine;
      expect(cache.freeBlocks).toBe(cache.blocks);
      expect(memory?.cache.freeBlocks).toBe(memory?.cache.blocks);
    });
  });
});
