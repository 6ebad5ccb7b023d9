/** The cache of packed files: written by the first load, mapped by the next, written anew when anything changed. */
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { defaultDevice } from '../../../src/core/device.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import type { LoadModelOptions } from '../../../src/generate/handles/load-options.js';
import { weightsOf } from '../../../src/models/parts.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { tinyGguf, writeTinyFolder } from '../../helpers/tiny-model.js';

const folder = temporaryFolder();
const { addon } = defaultDevice();

const mapped = (model: LanguageModel): boolean =>
  weightsOf(model.decoder).every(({ native }) => addon.weightInfo(native).mapped);

/** Loads through a cache, and tells whether the weights were mapped, with the text that the model writes. */
async function load(path: string, packedCache: string, options: LoadModelOptions = {}) {
  await using model = await loadLanguageModel(path, { contextLength: 64, packedCache, ...options });
  const { text } = await model.generate('a b', { maxTokens: 8, ignoreEos: true }).result();
  return { fromCache: mapped(model), text };
}

const newPlace = (name: string): { path: string; cache: string } => ({
  path: join(folder, `${name}.gguf`),
  cache: join(folder, `${name}-cache`, 'deep'),
});

describe.skipIf(process.platform === 'win32')('a cache of packed files', () => {
  it('is written by the first load of a file, and mapped by the second', async () => {
    const { path, cache } = newPlace('first');
    writeFileSync(path, tinyGguf('q4_0', { nExperts: 4 }));
    const first = await load(path, cache);
    expect(first.fromCache).toBe(false);
    const [name] = readdirSync(cache);
    expect(name).toMatch(/^first\.gguf-[0-9a-f]{16}-[0-9a-f]{16}\.switchyard$/);
    const { mtimeMs } = statSync(join(cache, name as string));
    expect(await load(path, cache)).toEqual({ fromCache: true, text: first.text });
    expect(statSync(join(cache, name as string)).mtimeMs).toBe(mtimeMs);
    // the packed file itself needs no cache
    expect((await load(join(cache, name as string), cache)).fromCache).toBe(true);
    expect(readdirSync(cache)).toEqual([name]);
  });

  it('serves folders, and the variable names it', async () => {
    const path = await writeTinyFolder(join(folder, 'hf'));
    const cache = join(folder, 'hf-cache');
    process.env.SWITCHYARD_PACKED_CACHE = cache;
    onTestFinished(() => void delete process.env.SWITCHYARD_PACKED_CACHE);
    await (await loadLanguageModel(path)).dispose();
    await using model = await loadLanguageModel(path);
    expect(mapped(model)).toBe(true);
  });

  it.each<[string, (path: string, file: string) => void]>([
    ['its source changed', (path) => writeFileSync(path, tinyGguf('q4_0', { seed: 2 }))],
    ['its source was touched', (path) => utimesSync(path, 1, 1)],
    ['it was cut', (_, file) => truncateSync(file, statSync(file).size - 1)],
    ['it is empty', (_, file) => truncateSync(file, 0)],
    ['it holds something else', (_, file) => writeFileSync(file, 'something else, of some length')],
    [
      'it is of another version',
      (_, file) => {
        const bytes = readFileSync(file);
        bytes[12] = 99;
        writeFileSync(file, bytes);
      },
    ],
    ['its header is broken', (_, file) => writeFileSync(file, readFileSync(file).fill(0x20, 100, 200))],
  ])('is written anew when %s', async (title, change) => {
    const { path, cache } = newPlace(title);
    writeFileSync(path, tinyGguf('q4_0'));
    await load(path, cache);
    change(path, join(cache, readdirSync(cache)[0] as string));
    const again = await load(path, cache);
    expect(again.fromCache).toBe(false);
    expect(readdirSync(cache)).toHaveLength(1);
    expect(await load(path, cache)).toEqual({ fromCache: true, text: again.text });
  });

  it('keeps models of one name apart', async () => {
    const cache = join(folder, 'apart-cache');
    const [a, b] = ['a', 'b'].map((name, i) => {
      mkdirSync(join(folder, name));
      const path = join(folder, name, 'model.gguf');
      writeFileSync(path, tinyGguf('q4_0', { seed: i + 5 }));
      return path;
    }) as [string, string];
    const texts = [(await load(a, cache)).text, (await load(b, cache)).text];
    expect(readdirSync(cache)).toHaveLength(2);
    expect([(await load(a, cache)).text, (await load(b, cache)).text]).toEqual(texts);
    expect(texts[0]).not.toBe(texts[1]);
  });

  it('that cannot be written is a warning; the model loads', async () => {
    const { path } = newPlace('unwritable');
    writeFileSync(path, tinyGguf('q4_0'));
    const warning = new Promise<Error>((resolve) => process.once('warning', resolve));
    // a file stands where the folder should be
    expect((await load(path, join(path, 'cache'))).fromCache).toBe(false);
    expect(String(await warning)).toContain(path);
  });

  it('is left alone by an abort, and hides no error of the model', async () => {
    const { path, cache } = newPlace('none');
    await expect(load(path, cache)).rejects.toMatchObject({ code: 'ERR_IO' });
    writeFileSync(path, 'nothing');
    await expect(load(path, cache)).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    writeFileSync(path, tinyGguf('q4_0'));
    const abort = new AbortController();
    const onProgress = ({ loaded, total }: { loaded: number; total: number }): void => {
      if (loaded === total) abort.abort(new Error('enough'));
    };
    const before = addon.memoryUsage().weights;
    await expect(load(path, cache, { signal: abort.signal, onProgress })).rejects.toThrow();
    expect(addon.memoryUsage().weights).toBe(before);
    await expect(load(path, cache, { contextLength: 0 })).rejects.toMatchObject({ code: 'ERR_OPTION' });
  });
});
