/** A model that all tests of a file use. */
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../src/generate/handles/load-options.js';
import { temporaryFolder } from './checkpoint.js';
import { type TinyOptions, writeTinyFolder } from './tiny-model.js';

/**
 * Loads a small decoder before the tests of a file; behind each of them all blocks of its cache must be free.
 * @param use gets the model
 * @returns the model's folder
 */
export function sharedTinyModel(
  use: (model: LanguageModel) => void,
  load: LoadModelOptions = { contextLength: 256, cacheTokens: 2048 },
  tiny: TinyOptions = { eosId: null },
): string {
  const path = join(temporaryFolder(), 'tiny');
  let model: LanguageModel;
  beforeAll(async () => {
    await writeTinyFolder(path, tiny);
    model = await loadLanguageModel(path, load);
    use(model);
  });
  afterEach(() => expect(model.engine.cache.freeBlocks).toBe(model.engine.cache.blocks));
  afterAll(() => model.dispose());
  return path;
}
