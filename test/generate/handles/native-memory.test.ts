// Whatever refuses on the way to a model, nothing native stays behind: a handle holds its bytes until garbage is collected.
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { TensorToWrite } from '../../../src/checkpoint/safetensors-write.js';
import { type Device, defaultDevice } from '../../../src/core/device.js';
import { SwitchyardError } from '../../../src/core/errors.js';
import { loadLanguageModel, loadModel } from '../../../src/generate/handles/load-model.js';
import { placeExperts } from '../../../src/models/decoder/place-experts.js';
import { weightsOf } from '../../../src/models/parts.js';
import { loadDecoder, openModel } from '../../../src/models/read/load.js';
import { quantizeModel } from '../../../src/quantize/index.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { Ledger } from '../../helpers/ledger.js';
import { randomTensors, writeRandomFolder } from '../../helpers/random-folder.js';
import { sentenceTransformers, writeDense } from '../../helpers/sentence-transformers.js';
import { type TinyOptions, tinyConfig, tinyGguf, writeTinyFolder } from '../../helpers/tiny-model.js';
import { TINY_BERT, TINY_SWITCH } from '../../helpers/tiny-stacks.js';

const TINY: TinyOptions = { nLayers: 2, dModel: 32, dFf: 32, nHeads: 2, nKvHeads: 1 };
const OPTIONS = { contextLength: 64 };

const root = temporaryFolder();
const at = (name: string): string => join(root, name);
const DENSE = at('dense');
const SPARSE = at('sparse.gguf');
const UPCYCLED = at('upcycled.switchyard');
const VECTORS = at('vectors');
const ANSWERS = at('answers');

beforeAll(async () => {
  await writeTinyFolder(DENSE, TINY);
  writeFileSync(SPARSE, tinyGguf('q8_0', { ...TINY, nExperts: 4 }));
  await writeRandomFolder(VECTORS, TINY_BERT);
  sentenceTransformers(VECTORS, { pooling_mode: 'mean' }, null, ['Dense', 'Dense']);
  await writeDense(join(VECTORS, '2_Dense'), [5, 12]);
  await writeDense(join(VECTORS, '3_Dense'), [4, 5]);
  await writeRandomFolder(ANSWERS, TINY_SWITCH);
  await using model = await loadLanguageModel(DENSE, OPTIONS);
  await using experts = await model.upcycle({ nExperts: 3, topK: 2 });
  await experts.save(UPCYCLED);
});

async function used(path: string, device: Device): Promise<void> {
  await using model = await loadModel(path, { device, ...OPTIONS });
  if (model.kind === 'encoder') await model.embed(['a b']);
  else await model.generate('a b', { maxTokens: 2, ignoreEos: true, routing: true }).result();
}

async function upcycle(device: Device): Promise<void> {
  await using model = await loadLanguageModel(DENSE, { device, ...OPTIONS });
  await using experts = await model.upcycle({ nExperts: 4, topK: 2 });
  await experts.generate([1, 2], { maxTokens: 1 }).result();
}

async function quantize(device: Device): Promise<void> {
  await using model = await loadLanguageModel(SPARSE, { device, ...OPTIONS });
  const text = Array.from({ length: 40 }, (_, i) => (7 * i) % 256);
  const options = { formats: { experts: 'q4_0' as const }, dropExperts: 1, text, window: 20 };
  await quantizeModel(model, at('less.switchyard'), options);
}

async function place(path: string, device: Device, gpu: number): Promise<void> {
  const decoder = await loadDecoder(openModel(path), { device, ...OPTIONS, expertsOnHost: true });
  const placed = await placeExperts(decoder, device, { gpu, cacheBytes: null, free: 0 });
  for (const split of placed.splits.values()) split.dispose();
  for (const { native } of weightsOf(placed)) device.disposeWeight(native);
}

const TASKS: [string, (device: Device) => Promise<void>][] = [
  ['a folder', (device) => used(DENSE, device)],
  ['a GGUF file', (device) => used(SPARSE, device)],
  ['a packed file with repeated experts', (device) => used(UPCYCLED, device)],
  ['an encoder with dense modules', (device) => used(VECTORS, device)],
  ['an encoder-decoder', (device) => used(ANSWERS, device)],
  ['upcycling', upcycle],
  ['quantising without some experts', quantize],
  ['places for some experts', (device) => place(SPARSE, device, 2)],
  ['places for all experts', (device) => place(SPARSE, device, 4)],
  ['places for repeated experts', (device) => place(UPCYCLED, device, 3)],
];

describe.each(TASKS)('%s', (_, task) => {
  it('gives back all that was made', async () => {
    const ledger = new Ledger();
    await task(ledger);
    expect(ledger.calls).toBeGreaterThan(8);
    expect(ledger.live).toEqual([]);
  });

  it('gives it back wherever one call is refused', async () => {
    const whole = new Ledger();
    await task(whole);
    for (let refused = 0; refused < whole.calls; refused++) {
      const ledger = new Ledger();
      ledger.refused = refused;
      await expect(task(ledger), `call ${refused}`).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
      expect(ledger.live, `after call ${refused}`).toEqual([]);
    }
  });
});

const weightBytes = (): number => defaultDevice().addon.memoryUsage().weights;

/** What a hostile file, or a program beside ours, does to a folder while it is loaded. */
type Harm = 'gone' | 'odd' | 'integers' | 'more' | 'cut' | 'thrown';

describe.each<[string, Record<string, unknown>]>([
  ['dense', tinyConfig(TINY)],
  ['sparse', tinyConfig({ ...TINY, nExperts: 3 })],
  ['encoder', TINY_BERT],
  ['encoder-decoder', TINY_SWITCH],
])('a broken folder, %s', (name, config) => {
  const folder = at(`broken ${name}`);
  const weights = join(folder, 'model.safetensors');
  const tensors = randomTensors(config);
  const harms = fc.constantFrom<Harm>('gone', 'odd', 'integers', 'more', 'cut', 'thrown');

  /** Loads it when tensor number `which` has come to harm; those read before it have been packed by then. */
  async function loaded(harm: Harm, which: number): Promise<void> {
    const changed: TensorToWrite[] = [...tensors];
    const { name: odd, shape, data } = tensors[which] as (typeof tensors)[number];
    if (harm === 'gone') changed.splice(which, 1);
    if (harm === 'odd')
      changed[which] = { name: odd, shape: [...shape, 2], data: new Float32Array(2 * data.length) };
    if (harm === 'integers') changed[which] = { name: odd, shape, data: new Int32Array(data.length) };
    if (harm === 'more') changed.push({ name: `${odd}.more`, shape: [1], data: new Float32Array(1) });
    await writeTinyFolder(folder, {}, { config, tensors: changed });
    let steps = 0;
    const onProgress = (): void => {
      if (steps++ < which % 8) return;
      if (harm === 'cut') truncateSync(weights, 0);
      if (harm === 'thrown') throw new SwitchyardError('ERR_OPTION', '[test] got enough, expected less');
    };
    await (await loadModel(folder, { ...OPTIONS, onProgress })).dispose();
  }

  it('is refused, and what was packed of it is freed', async () => {
    await fc.assert(
      fc.asyncProperty(harms, fc.nat(tensors.length - 1), async (harm, which) => {
        const before = weightBytes();
        await expect(loaded(harm, which)).rejects.toBeInstanceOf(SwitchyardError);
        expect(weightBytes()).toBe(before);
      }),
      { seed: 31, numRuns: 60 },
    );
  });
});

it.each([SPARSE, UPCYCLED])(
  'a file with another name for one tensor is refused, and freed: %s',
  async (path) => {
    const whole = readFileSync(path);
    const names = [...whole.toString('latin1').matchAll(/(blk|layers)\.\d+\.[\w.]+\.weight/g)];
    const broken = at('broken-'.concat(basename(path)));
    expect(names.length).toBeGreaterThan(8);
    for (const { index, 0: name } of names) {
      const bytes = Buffer.from(whole);
      bytes.write('x', index + name.length - 1, 'latin1');
      writeFileSync(broken, bytes);
      const before = weightBytes();
      await expect(loadModel(broken, OPTIONS), name).rejects.toBeInstanceOf(SwitchyardError);
      expect(weightBytes(), name).toBe(before);
    }
  },
);
