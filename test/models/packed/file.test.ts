/** Packed files: the same model again, in every format; what they cost; and broken, hostile and cut ones. */
import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { preambleBytes } from '../../../src/checkpoint/packed-layout.js';
import { defaultDevice } from '../../../src/core/device.js';
import { SwitchyardError } from '../../../src/core/errors.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { plainConfig, readPlainConfig } from '../../../src/models/packed/plain-config.js';
import type { SaveProgress } from '../../../src/models/packed/save.js';
import { weightsOf } from '../../../src/models/parts.js';
import { openModel } from '../../../src/models/read/load.js';
import * as moe from '../../../src/moe/index.js';
import type { RopeConfig } from '../../../src/nn/rope.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { tinyGguf, writeTinyFolder } from '../../helpers/tiny-model.js';
import { ofKind } from '../../parity/folders.js';

const folder = temporaryFolder();
const { addon } = defaultDevice();
const weightBytes = (): number => addon.memoryUsage().weights;

async function logitsOf(model: LanguageModel): Promise<Float32Array> {
  const { logits } = await model.forward({ inputIds: [[1, 2, 3, 4, 5]] });
  return (await logits.data()) as Float32Array;
}

/** Saves the model at `path` and loads what was saved. */
async function saved(path: string, to: string): Promise<[LanguageModel, LanguageModel]> {
  const first = await loadLanguageModel(path, { contextLength: 64 });
  await first.save(to);
  return [first, await loadLanguageModel(to, { contextLength: 64 })];
}

async function expectSameModel(path: string, to: string): Promise<void> {
  const [first, again] = await saved(path, to);
  expect(await logitsOf(again)).toEqual(await logitsOf(first));
  expect(again.dtype).toBe(first.dtype);
  expect(plainConfig(again.config)).toEqual(plainConfig(first.config));
  expect(weightsOf(again.decoder).map(String)).toEqual(weightsOf(first.decoder).map(String));
  expect(again.tokenizer.encode('a b c</s>')).toEqual(first.tokenizer.encode('a b c</s>'));
  expect(again.tokenizer.endIds).toEqual(first.tokenizer.endIds);
  await first.dispose();
  await again.dispose();
}

describe('a packed file is the same model to the bit', () => {
  const to = join(folder, 'same.switchyard');
  it.each([
    ['dense folder', { nExperts: 0 }, null],
    ['sparse folder', { nExperts: 4 }, null],
    ['dense q4_0', { nExperts: 0 }, 'q4_0'],
    ['sparse q4_1', { nExperts: 5, topK: 3 }, 'q4_1'],
    ['sparse q8_0', { nExperts: 4, window: 7 }, 'q8_0'],
  ] as const)('%s', async (title, options, format) => {
    const path = join(folder, `same-${title}`);
    if (format === null) await writeTinyFolder(path, options);
    else writeFileSync(path, tinyGguf(format, options));
    await expectSameModel(path, to);
  });

  for (const { kind, path, name } of [...ofKind('model'), ...ofKind('gguf')]) {
    const file = kind === 'gguf' ? join(path, 'model.gguf') : path;
    it(`reference ${name}`, async (context) => {
      try {
        openModel(file);
      } catch (error) {
        if ((error as SwitchyardError).code === 'ERR_UNSUPPORTED_ARCH') return context.skip();
        throw error;
      }
      const [first, again] = await saved(file, to);
      expect(await logitsOf(again)).toEqual(await logitsOf(first));
      await first.dispose();
      await again.dispose();
    });
  }

  it('upcycled: equal experts are stored once', async () => {
    const path = await writeTinyFolder(join(folder, 'upcycle'));
    await using first = await loadLanguageModel(path);
    await using sparse = await first.upcycle({ nExperts: 16, topK: 2, gating: 'sigmoid-top-k' });
    await sparse.save(to);
    const own = weightsOf(first.decoder).reduce((sum, w) => sum + w.bytes, 0);
    expect(statSync(to).size).toBeLessThan(2 * own);
    await using again = await loadLanguageModel(to);
    expect(weightsOf(again.decoder).map(String)).toContain('Weight(f32 16 × [96, 64])');
    expect(await logitsOf(again)).toEqual(await logitsOf(sparse));
  });

  it('saved again from its mapping, over itself', async () => {
    const path = await writeTinyFolder(join(folder, 'again'));
    const [first, again] = await saved(path, to);
    const bytes = readFileSync(to);
    await again.save(to);
    expect(readFileSync(to).equals(bytes)).toBe(true);
    expect(await logitsOf(again)).toEqual(await logitsOf(first)); // the old file lives on under its mapping
    await first.dispose();
    await again.dispose();
  });
});

describe('every gating policy', () => {
  it.each(moe.gatingNames)('%s is made again from its plain form', (name) => {
    const policy = moe.resolveGating(name);
    const again = moe.gating.gatingFrom(name, JSON.parse(JSON.stringify(policy.options)));
    expect(again.name).toBe(name);
    expect(again.options).toEqual(policy.options);
  });

  it('with options of its own', () => {
    const policy = moe.gating.sigmoidTopK({ groups: 4, topGroups: 2, renormalize: false, scale: 2.5 });
    const { name, options } = moe.gating.gatingForm(policy);
    expect(moe.gating.gatingFrom(name, options).options).toEqual(policy.options);
    expect(options).toEqual({ groups: 4, topGroups: 2, renormalize: false, scale: 2.5 });
  });

  it('of a user cannot be written down', () => {
    const own = { ...moe.resolveGating('dense'), name: 'own' };
    expect(() => moe.gating.gatingForm(own)).toThrow("got policy 'own' to write down");
    expect(() => moe.gating.gatingFrom('own', {})).toThrow("'own'");
    expect(() => moe.gating.gatingFrom('softmax-top-k', { scale: '2' })).toThrow('expected a number');
  });
});

describe('saving', () => {
  const path = join(folder, 'saving');
  beforeAll(() => writeTinyFolder(path));
  const leftovers = (): string[] => readdirSync(folder).filter((name) => name.endsWith('.tmp'));

  it('reports progress up to the size of the file', async () => {
    await using model = await loadLanguageModel(path);
    const seen: SaveProgress[] = [];
    const to = join(folder, 'progress.switchyard');
    await model.save(to, { onProgress: (p) => seen.push(p) });
    expect(seen.at(-1)).toMatchObject({ written: statSync(to).size, total: statSync(to).size });
  });

  it('leaves nothing behind when it is aborted or refused', async () => {
    await using model = await loadLanguageModel(path);
    const to = join(folder, 'aborted.switchyard');
    const save = model.save(to, { signal: AbortSignal.abort(new Error('enough')) });
    await expect(save).rejects.toMatchObject({ code: 'ERR_ABORTED', cause: { message: 'enough' } });
    expect(() => statSync(to)).toThrow();
    await expect(model.save(join(folder, 'no', 'x'))).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(model.save(to, { sginal: 1 } as never)).rejects.toThrow(/signal/);
    expect(leftovers()).toEqual([]);
  });

  it.skipIf(process.platform === 'win32')('weights are mapped, and freed with the model', async () => {
    const to = join(folder, 'mapped.switchyard');
    const [first, again] = await saved(path, to);
    await first.dispose();
    for (const { native } of weightsOf(again.decoder)) expect(addon.weightInfo(native).mapped).toBe(true);
    expect(weightBytes()).toBeGreaterThan(0);
    await again.dispose();
    expect(weightBytes()).toBe(0);
  });
});

describe('a file that is cut under a loaded model', () => {
  it.skipIf(process.platform === 'win32').each([
    ['to nothing', () => 0],
    ['in the middle', (size: number) => size >> 1],
    ['by one byte', (size: number) => size - 1],
  ])('%s: runs end in an error that names it, the process and other models live on', async (_, to) => {
    const path = await writeTinyFolder(join(folder, 'cut'), { nExperts: 4 });
    const file = join(folder, 'cut.switchyard');
    const [first, again] = await saved(path, file);
    const before = await logitsOf(again);
    truncateSync(file, to(statSync(file).size));
    await expect(logitsOf(again)).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringContaining(file),
    });
    await expect(again.generate([1, 2], { maxTokens: 4 }).result()).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(again.save(join(folder, 'rescued'))).rejects.toMatchObject({ code: 'ERR_IO' });
    expect(await logitsOf(first)).toEqual(before);
    await again.dispose();
    await first.dispose();
  });
});

describe('a broken or hostile file', () => {
  const path = join(folder, 'hostile.switchyard');
  let whole: Buffer;
  beforeAll(async () => {
    const source = await writeTinyFolder(join(folder, 'hostile'), {
      nExperts: 4,
      nLayers: 1,
      dModel: 32,
      dFf: 32,
    });
    const [first, again] = await saved(source, path);
    await first.dispose();
    await again.dispose();
    whole = readFileSync(path);
  });

  /** Loads and runs: 'ran', or the error, which must be typed and name the file. */
  async function attempt(bytes: Uint8Array): Promise<SwitchyardError | 'ran'> {
    writeFileSync(path, bytes);
    const before = weightBytes();
    try {
      await using model = await loadLanguageModel(path, { contextLength: 64 });
      model.tokenizer.encode('a');
      await logitsOf(model);
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      expect(error.message.includes(path) || /finite number/.test(error.message), error.message).toBe(true);
      return error;
    } finally {
      expect(weightBytes()).toBe(before);
    }
    return 'ran';
  }

  type Header = {
    config: Record<string, unknown> & { rope: Record<string, unknown>; moe: Record<string, unknown> };
    end_ids: unknown;
    tensors: Record<string, unknown>[];
  } & Record<string, unknown>;

  /** The file with another header of the same length. */
  function withHeader(change: (header: Header) => void): Buffer {
    const bytes = Buffer.from(whole);
    const length = Number(bytes.readBigUInt64LE(24));
    const header = JSON.parse(bytes.toString('utf8', preambleBytes, preambleBytes + length)) as Header;
    change(header);
    const text = Buffer.from(JSON.stringify(header));
    expect(text.length).toBeLessThanOrEqual(length);
    bytes.fill(' ', preambleBytes, preambleBytes + length);
    text.copy(bytes, preambleBytes);
    return bytes;
  }
  const tensor = (header: Header, name: string): Record<string, unknown> =>
    header.tensors.find((t) => t.name === name) as Record<string, unknown>;
  const router = 'layers.0.router.weight';
  const gate = 'layers.0.experts.gate.weight';

  it('runs as it is', async () => expect(await attempt(whole)).toBe('ran'));
  it('runs with its header written again', async () =>
    expect(await attempt(withHeader(() => undefined))).toBe('ran'));

  it.each<[string, string, (h: Header) => void]>([
    ['an offset beyond the file', 'ERR_FORMAT', (h) => (tensor(h, gate).offset = 2 ** 40)],
    ['an offset beyond 2^53', 'ERR_FORMAT', (h) => (tensor(h, gate).offset = 2 ** 60)],
    ['a negative offset', 'ERR_FORMAT', (h) => (tensor(h, gate).offset = -4096)],
    ['an offset of no page', 'ERR_FORMAT', (h) => (tensor(h, gate).offset = 64)],
    ['an offset in the header', 'ERR_FORMAT', (h) => (tensor(h, gate).offset = 0)],
    ['an offset that is none', 'ERR_FORMAT', (h) => (tensor(h, gate).offset = '4096')],
    ['overlaps', 'ERR_FORMAT', (h) => (tensor(h, gate).offset = tensor(h, router).offset)],
    ['other rows', 'ERR_FORMAT', (h) => (tensor(h, gate).rows = 33)],
    ['no rows', 'ERR_FORMAT', (h) => (tensor(h, gate).rows = 0)],
    ['2^50 experts', 'ERR_FORMAT', (h) => (tensor(h, gate).experts = 2 ** 50)],
    ['2^50 columns', 'ERR_FORMAT', (h) => (tensor(h, gate).columns = 2 ** 50)],
    ['other bytes', 'ERR_FORMAT', (h) => (tensor(h, gate).bytes = 64)],
    ['another format', 'ERR_FORMAT', (h) => (tensor(h, gate).format = 'f16')],
    ['a format nobody knows', 'ERR_FORMAT', (h) => (tensor(h, gate).format = 'q9')],
    ['a name twice', 'ERR_FORMAT', (h) => (tensor(h, gate).name = router)],
    ['another name', 'ERR_FORMAT', (h) => (tensor(h, gate).name = 'x')],
    [
      'a tensor too many',
      'ERR_UNSUPPORTED',
      (h) => h.tensors.push({ name: 'x', size: 1, offset: whole.length - 64 }),
    ],
    ['a tensor too few', 'ERR_FORMAT', (h) => h.tensors.pop()],
    ['a key too many', 'ERR_FORMAT', (h) => (tensor(h, router).note = 1)],
    ['no tensors', 'ERR_FORMAT', (h) => (h.tensors = 3 as never)],
    ['a vector too long', 'ERR_FORMAT', (h) => (tensor(h, 'final_norm.weight').size = 2 ** 52)],
    ['a vector too short', 'ERR_FORMAT', (h) => (tensor(h, 'final_norm.weight').size = 1)],
    ['end ids that are none', 'ERR_FORMAT', (h) => (h.end_ids = ['x'])],
    ['no config', 'ERR_FORMAT', (h) => (h.config = null as never)],
    ['a key in the config', 'ERR_UNSUPPORTED', (h) => (h.config.swaWidth = 3)],
    ['another width', 'ERR_FORMAT', (h) => (h.config.dModel = 64)],
    ['a width of 2^40', 'ERR_FORMAT', (h) => (h.config.dModel = 2 ** 40)],
    ['heads that do not divide', 'ERR_FORMAT', (h) => (h.config.nKvHeads = 3)],
    ['layers that do not exist', 'ERR_FORMAT', (h) => (h.config.nLayers = 1000)],
    ['a sparse layer that does not exist', 'ERR_FORMAT', (h) => (h.config.moe.layers = [7])],
    ['more chosen than there are', 'ERR_FORMAT', (h) => (h.config.moe.topK = 5)],
    ['a policy nobody knows', 'ERR_FORMAT', (h) => (h.config.moe.gating = { name: 'x', options: {} })],
    [
      'an option nobody knows',
      'ERR_FORMAT',
      (h) => (h.config.moe.gating = { name: 'dense', options: { x: 1 } }),
    ],
    [
      'a policy that looks ahead',
      'ERR_FORMAT',
      (h) => (h.config.moe.gating = { name: 'soft-moe', options: {} }),
    ],
    [
      'rope factors too few',
      'ERR_FORMAT',
      (h) => (h.config.rope.scaling = { type: 'factors', factors: [1] }),
    ],
    ['a scaling nobody knows', 'ERR_FORMAT', (h) => (h.config.rope.scaling = { type: 'x' })],
    ['odd rotary sizes', 'ERR_FORMAT', (h) => (h.config.rope.dim = 3)],
  ])('with %s is refused', async (_, code, change) => {
    const error = await attempt(withHeader((h) => void change(h)));
    expect(error).toMatchObject({ code });
  });

  it.each([
    ['another magic number', 0, 'ERR_FORMAT'],
    ['another byte order', 8, 'ERR_FORMAT'],
    ['another version', 12, 'ERR_UNSUPPORTED'],
    ['another layout', 16, 'ERR_UNSUPPORTED'],
    ['a reserved word', 20, 'ERR_FORMAT'],
    ['another length of the header', 24, 'ERR_FORMAT'],
    ['another length of the tokenizer', 32, 'ERR_FORMAT'],
    ['another length of the file', 40, 'ERR_FORMAT'],
  ])('with %s is refused', async (_, at, code) => {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] as number) ^ 0x40;
    expect(await attempt(bytes)).toMatchObject({ code });
  });

  it('is refused when it is cut or longer', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: whole.length - 1 }), async (length) => {
        const { code } = (await attempt(whole.subarray(0, length))) as SwitchyardError;
        expect(['ERR_FORMAT', 'ERR_IO']).toContain(code);
      }),
      { seed: 21, numRuns: 60 },
    );
    expect(await attempt(Buffer.concat([whole, Buffer.alloc(1)]))).toMatchObject({ code: 'ERR_FORMAT' });
  });

  it('runs or is refused with flipped bits before its weights', async () => {
    const end = preambleBytes + Number(whole.readBigUInt64LE(24)) + Number(whole.readBigUInt64LE(32));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 8 * end - 1 }), async (bit) => {
        const bytes = Buffer.from(whole);
        bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
        await attempt(bytes);
      }),
      { seed: 22, numRuns: 400 },
    );
  });

  it('runs or is refused with other values in its header', async () => {
    const values = [
      0,
      -1,
      1,
      3,
      2 ** 31,
      2 ** 53,
      1e300,
      0.5,
      '',
      'x',
      null,
      true,
      [],
      [[]],
      {},
      { name: 1 },
    ];
    await fc.assert(
      fc.asyncProperty(fc.nat(), fc.constantFrom(...values), async (where, value) => {
        const bytes = withHeader((header) => {
          const leaves: [Record<string, unknown>, string][] = [];
          const walk = (o: unknown): void => {
            if (typeof o !== 'object' || o === null) return;
            for (const key of Object.keys(o)) {
              leaves.push([o as Record<string, unknown>, key]);
              walk((o as Record<string, unknown>)[key]);
            }
          };
          walk(header);
          const [object, key] = leaves[where % leaves.length] as [Record<string, unknown>, string];
          object[key] = value;
        });
        await attempt(bytes);
      }),
      { seed: 23, numRuns: 400 },
    );
  });

  it('runs with any bytes as weights', async () => {
    const bytes = Buffer.from(whole);
    const start = Number(/"offset":(\d+)/.exec(whole.toString('latin1'))?.[1]);
    for (let i = start; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 13;
    await attempt(bytes);
  });
});

it('a config in plain form keeps every kind of scaling', () => {
  const source = readPlainConfig(
    {
      family: 'llama',
      dModel: 64,
      nLayers: 2,
      nHeads: 4,
      nKvHeads: 2,
      headDim: 16,
      dFf: 96,
      vocabSize: 260,
      maxSeqLen: 2048,
      norm: { kind: 'rms', eps: 1e-5, weightOffset: 0, bias: false },
      block: 'sandwich',
      finalNorm: true,
      residualScale: 0.5,
      rope: { theta: 1e4, dim: 16, interleaved: true, scaling: { type: 'default' } },
      learnedPositions: { rows: 9, offset: 2 },
      alibi: false,
      dEmbedding: 32,
      embeddingScale: 3,
      embeddingNorm: true,
      tiedEmbeddings: true,
      headBias: true,
      logitScale: 0.25,
      queryKeyValueBias: true,
      outputBias: false,
      qkNorm: 'heads',
      clipQkv: 8,
      attentionScale: 0.1,
      sinks: true,
      window: 4,
      windowLayers: [1],
      latent: null,
      activation: 'silu',
      gated: true,
      feedForwardBias: false,
      moe: null,
      nPredictionLayers: 1,
      bosId: 1,
      eosIds: [2, 3],
    },
    'here',
  );
  const list = [1, 2, 3, 4, 5, 6, 7, 8];
  for (const scaling of [
    { type: 'linear', factor: 2 },
    { type: 'dynamic', factor: 2, originalMaxSeqLen: 99 },
    { type: 'llama3', factor: 8, lowFreqFactor: 1, highFreqFactor: 4, originalMaxSeqLen: 99 },
    { type: 'factors', factors: list },
    {
      type: 'longrope',
      shortFactors: list,
      longFactors: list,
      originalMaxSeqLen: 9,
      attentionFactor: 1.5,
      shortScale: 1.25,
      longScale: null,
    },
    {
      type: 'yarn',
      factor: 4,
      originalMaxSeqLen: 99,
      betaFast: 32,
      betaSlow: 1,
      attentionFactor: null,
      mscale: 1,
      mscaleAllDim: 0.5,
      truncate: false,
    },
  ] as const) {
    const config = { ...source, rope: { ...(source.rope as RopeConfig), scaling } };
    expect(readPlainConfig(JSON.parse(JSON.stringify(plainConfig(config))), 'there')).toEqual(config);
  }
});
