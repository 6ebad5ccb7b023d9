import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { locateModel } from '../../src/hub/cache.js';
import { type PullOptions, pull } from '../../src/hub/pull.js';
import { FakeHub, serve } from '../helpers/fake-hub.js';
import { walkFiles } from '../helpers/fixtures.js';

const large = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7 + (i >> 8)) & 255));

describe('pull', () => {
  let hub: FakeHub;
  let cacheFolder: string;
  beforeEach(async () => {
    hub = await FakeHub.start();
    cacheFolder = mkdtempSync(join(tmpdir(), 'switchyard-hub-'));
    hub.add('config.json', '{"model_type":"llama"}');
    hub.add('model.safetensors', large, { large: true });
    hub.add('pytorch_model.bin', 'not wanted', { large: true });
  });
  afterEach(async () => {
    await hub[Symbol.asyncDispose]();
    rmSync(cacheFolder, { recursive: true });
  });
  const run = (options: PullOptions = {}, id = 'org/tiny') =>
    pull(id, { endpoint: hub.endpoint, cacheFolder, retryMs: 1, ...options });
  const repository = () => join(cacheFolder, 'models--org--tiny');
  const blob = (name: string) => join(repository(), 'blobs', hub.hashOf(name));
  const downloads = () => hub.requests.filter(({ path }) => path.includes('/resolve/'));

  it('lays the cache out as transformers does', async () => {
    const progress: number[] = [];
    const result = await run({ onProgress: ({ loaded, total }) => progress.push(loaded / total) });
    expect(result.commit).toBe(hub.commit);
    expect(result.folder).toBe(join(repository(), 'snapshots', hub.commit));
    expect(result.files.map(({ name }) => name)).toEqual(['config.json', 'model.safetensors']);
    expect(readFileSync(join(repository(), 'refs/main'), 'utf8')).toBe(hub.commit);
    const file = join(result.folder, 'model.safetensors');
    expect(readFileSync(file).equals(large)).toBe(true);
    expect(readlinkSync(file)).toBe(`../../blobs/${hub.hashOf('model.safetensors')}`);
    expect(readdirSync(join(repository(), 'blobs')).sort()).toEqual(
      [hub.hashOf('config.json'), hub.hashOf('model.safetensors')].sort(),
    );
    expect(progress.at(-1)).toBe(1);
    expect(progress.every((share, i) => i === 0 || share >= progress[i - 1])).toBe(true);
    // Nothing is downloaded a second time.
    const before = downloads().length;
    await run();
    expect(downloads().length).toBe(before);
  });

  it('continues where a connection broke, however often', async () => {
    hub.files.delete('config.json');
    hub.breaks.push(1000, 50_000, 1, 100_000);
    await run();
    expect(readFileSync(blob('model.safetensors')).equals(large)).toBe(true);
    const ranges = downloads().map(({ range }) => range);
    expect(ranges[0]).toBeUndefined();
    expect(ranges.length).toBe(5);
    // What had come was not asked for again: a break may swallow bytes on their way, never give more.
    const starts = ranges.map((range) => Number(/\d+/.exec(range ?? '0')![0]));
    expect(starts.every((start, i) => i === 0 || start >= starts[i - 1])).toBe(true);
    expect(starts.at(-1)).toBeLessThanOrEqual(151_001);
  });

  it('continues what an earlier run left, and starts anew where that was something else', async () => {
    for (const [left, asked] of [
      [large.subarray(0, 1234), ['bytes=1234-']],
      [Buffer.alloc(1234), ['bytes=1234-', undefined]],
      [Buffer.alloc(large.length + 1), [undefined]],
      [large, []],
    ] as const) {
      rmSync(repository(), { recursive: true, force: true });
      mkdirSync(dirname(blob('model.safetensors')), { recursive: true });
      writeFileSync(`${blob('model.safetensors')}.incomplete`, left);
      hub.requests.length = 0;
      await run({ include: ['model.safetensors'] });
      expect(readFileSync(blob('model.safetensors')).equals(large)).toBe(true);
      expect(downloads().map(({ range }) => range)).toEqual(asked);
    }
  });

  it('starts anew where a server knows no ranges', async () => {
    hub.ranges = false;
    hub.breaks.push(2000);
    await run({ include: ['model.safetensors'] });
    expect(readFileSync(blob('model.safetensors')).equals(large)).toBe(true);
  });

  it('gives up when a connection keeps breaking, and keeps what came', async () => {
    hub.before = (path, response) => {
      if (!path.includes('/resolve/')) return false;
      response.writeHead(503).end();
      return true;
    };
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_IO',
      message: expect.stringContaining('HTTP 503'),
    });
    // Five tries for the file that failed first; its neighbour may have begun.
    const tries = downloads().filter(({ path }) => path.endsWith('model.safetensors'));
    expect(tries.length).toBeLessThanOrEqual(5);
    expect(existsSync(join(repository(), 'refs/main'))).toBe(false);
    hub.before = undefined;
    hub.breaks.push(...new Array(40).fill(0));
    await expect(run({ include: ['model.safetensors'] })).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  it('takes a connection that says nothing as broken', async () => {
    let hangs = 2;
    hub.before = (path) => path.endsWith('model.safetensors') && hangs-- > 0;
    await run({ stallMs: 50 });
    expect(readFileSync(blob('model.safetensors')).equals(large)).toBe(true);
  });

  it.each([
    ['a large file', 'model.safetensors', { lfs: { sha256: '0'.repeat(64), size: large.length } }],
    ['a small file', 'config.json', { blobId: '0'.repeat(40) }],
  ])('refuses %s with a wrong checksum', async (_what, name, listed) => {
    hub.files.get(name)!.listed = listed;
    await expect(run({ include: [name] })).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining(name),
    });
    expect(walkFiles(cacheFolder, () => true)).toEqual([]);
  });

  it('refuses more bytes than are listed, and waits for those that are missing', async () => {
    hub.files.get('config.json')!.listed = { size: 5 };
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_FORMAT',
      message: expect.stringContaining('more than 5'),
    });
    hub.files.get('config.json')!.listed = { size: 500 };
    await expect(run()).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  it.each([
    '../evil',
    'a/../../evil',
    '/etc/evil',
    'a//b',
    'a/./b',
    'C:\\evil',
    'a\\..\\evil',
    'con:evil',
    'a\u0000b',
    'trailing./x',
    '',
    '.',
  ])('refuses a listing with the file %j', async (name) => {
    hub.add(name, 'evil');
    await expect(run()).rejects.toMatchObject({ code: 'ERR_FORMAT' });
    expect(walkFiles(dirname(cacheFolder), (file) => file === 'evil')).toEqual([]);
    expect(downloads()).toEqual([]);
  });

  it.each<[string, unknown]>([
    ['no object', 'x'],
    ['no commit', { siblings: [] }],
    ['a commit that is a path', { sha: '../../evil', siblings: [] }],
    ['no checksum', { sha: 'a'.repeat(40), siblings: [{ rfilename: 'a', size: 1 }] }],
    [
      'a checksum that is a path',
      { sha: 'a'.repeat(40), siblings: [{ rfilename: 'a', size: 1, blobId: `../${'a'.repeat(37)}` }] },
    ],
    [
      'a size that is none',
      { sha: 'a'.repeat(40), siblings: [{ rfilename: 'a', size: -1, blobId: 'a'.repeat(40) }] },
    ],
    [
      'two names that some systems cannot tell apart',
      {
        sha: 'a'.repeat(40),
        siblings: ['a', 'A'].map((rfilename) => ({ rfilename, size: 1, blobId: 'a'.repeat(40) })),
      },
    ],
  ])('refuses a listing with %s', async (_what, listing) => {
    hub.listing = listing;
    await expect(run()).rejects.toMatchObject({ code: 'ERR_FORMAT' });
  });

  it('shows the token to the hub only, not to where it redirects', async () => {
    const seen: (string | undefined)[] = [];
    await using store = await serve((request, response) => {
      seen.push(request.headers.authorization);
      response.end(large);
    });
    hub.before = (path, response) => {
      if (!path.endsWith('model.safetensors')) return false;
      response.writeHead(302, { location: `${store.origin}/blob` }).end();
      return true;
    };
    await run({ token: 'hf_secret' });
    expect(seen).toEqual([undefined]);
    expect(hub.requests.length).toBe(3);
    expect(hub.requests.every(({ authorization }) => authorization === 'Bearer hf_secret')).toBe(true);
    expect(readFileSync(blob('model.safetensors')).equals(large)).toBe(true);
  });

  it('follows no redirect without an end', async () => {
    hub.before = (path, response) => {
      if (!path.includes('/resolve/')) return false;
      response.writeHead(302, { location: path }).end();
      return true;
    };
    await expect(run()).rejects.toMatchObject({ code: 'ERR_IO' });
  });

  it.each([
    [401, /HF_TOKEN/],
    [403, /terms/],
    [404, /HF_ENDPOINT/],
  ])('says what to do about HTTP %i', async (status, hint) => {
    hub.before = (_path, response) => {
      response.writeHead(status).end();
      return true;
    };
    await expect(run()).rejects.toMatchObject({ code: 'ERR_IO', hint: expect.stringMatching(hint) });
    expect(hub.requests.length).toBe(1);
  });

  it('stops when it is told to', async () => {
    const controller = new AbortController();
    hub.before = (path) => {
      if (path.includes('/resolve/')) controller.abort();
      return path.includes('/resolve/');
    };
    await expect(run({ signal: controller.signal })).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });

  it('takes files by patterns, empty ones and those in folders too', async () => {
    hub.add('1_Pooling/config.json', '');
    hub.add('onnx/model.onnx', 'x', { large: true });
    const { folder, files } = await run({ include: ['1_*', '*.onnx', 'confi?.json'] });
    expect(files.map(({ name }) => name)).toEqual([
      'config.json',
      '1_Pooling/config.json',
      'onnx/model.onnx',
    ]);
    expect(readFileSync(join(folder, '1_Pooling/config.json'), 'utf8')).toBe('');
    await expect(run({ include: ['*.gguf'] })).rejects.toMatchObject({
      code: 'ERR_OPTION',
      hint: expect.stringContaining('config.json'),
    });
  });

  it('by default takes one GGUF file, and asks where there are several', async () => {
    for (const name of [...hub.files.keys()]) hub.files.delete(name);
    hub.add('a.Q4_0.gguf', 'a', { large: true });
    expect((await run()).files.length).toBe(1);
    hub.add('a.Q8_0.gguf', 'b', { large: true });
    await expect(run()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      hint: expect.stringContaining('a.Q8_0.gguf'),
    });
  });

  it('leaves out weights under other names than loading looks for', async () => {
    for (const name of [
      'consolidated.safetensors',
      'original/model.safetensors',
      'tf_model.h5',
      'model-00001-of-00001.safetensors',
    ])
      hub.add(name, name, { large: true });
    const names = (await run()).files.map(({ name }) => name);
    expect(names).toEqual(['config.json', 'model.safetensors', 'model-00001-of-00001.safetensors']);
  });

  it('keeps each revision by its name', async () => {
    const { folder } = await run({}, 'org/tiny@refs/pr/3');
    expect(hub.requests[0].path).toBe('/api/models/org/tiny/revision/refs/pr/3?blobs=true');
    expect(readFileSync(join(repository(), 'refs/refs/pr/3'), 'utf8')).toBe(hub.commit);
    expect(await run({ revision: hub.commit })).toMatchObject({ folder });
    expect(existsSync(join(repository(), 'refs', hub.commit))).toBe(false);
  });

  it.each<[string, PullOptions]>([
    ['../evil', {}],
    ['a/b/c', {}],
    ['org/..', {}],
    ['org/na--me', {}],
    ['', {}],
    ['org/tiny@../../evil', {}],
    ['org/tiny', { revision: '../x' }],
    ['org/tiny', { revision: '' }],
    ['org/tiny@a', { revision: 'b' }],
    ['org/tiny', { endpoint: 'file:///etc' }],
    ['org/tiny', { branch: 'x' } as PullOptions],
  ])('refuses %j %j', async (id, options) => {
    await expect(run(options, id)).rejects.toMatchObject({ code: 'ERR_OPTION' });
    expect(hub.requests).toEqual([]);
  });

  it('checks by the two kinds of checksum that git and large files have', () => {
    expect(hub.hashOf('model.safetensors')).toBe(createHash('sha256').update(large).digest('hex'));
    // `printf '{"model_type":"llama"}' | git hash-object --stdin`
    expect(hub.hashOf('config.json')).toBe('0972e95c1405cc1507c19dcbe784f7a36c930907');
  });

  describe('names of models', () => {
    const old = process.env.HF_HUB_CACHE;
    beforeEach(() => {
      process.env.HF_HUB_CACHE = cacheFolder;
    });
    afterEach(() => {
      if (old === undefined) delete process.env.HF_HUB_CACHE;
      else process.env.HF_HUB_CACHE = old;
    });

    it('mean what is in the cache, and download nothing', async () => {
      expect(() => locateModel('org/tiny')).toThrow(
        expect.objectContaining({
          code: 'ERR_IO',
          hint: expect.stringContaining("'switchyard pull org/tiny'"),
        }),
      );
      expect(hub.requests).toEqual([]);
      const { folder } = await run();
      expect(locateModel('org/tiny')).toBe(folder);
      expect(locateModel('org/tiny@main')).toBe(folder);
      expect(locateModel(`org/tiny@${hub.commit}`)).toBe(folder);
      expect(locateModel('org/tiny/config.json')).toBe(join(folder, 'config.json'));
      expect(() => locateModel('org/tiny/../../../x')).toThrow(/path inside/);
      expect(() => locateModel('org/tiny@v2')).toThrow(/no such repository/);
    });

    it('are paths where there is such a path, or no repository could have the name', () => {
      for (const path of [cacheFolder, 'src/hub', './org/tiny', '/org/tiny', 'model.gguf', 'a/model.gguf'])
        expect(locateModel(path)).toBe(path);
    });
  });
});
