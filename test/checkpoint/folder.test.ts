import { mkdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/checkpoint/folder.js';
import { TensorTable } from '../../src/checkpoint/tensor-file.js';
import { errorOf, expectSound, put, safetensorsBytes, temporaryFolder } from '../helpers/checkpoint.js';
import { fixturesFolder, walkFiles } from '../helpers/fixtures.js';
import { ggufBytes } from '../helpers/gguf-writer.js';

const root = temporaryFolder();
let count = 0;
/** A new folder with these files; objects become JSON. */
function folderOf(files: Record<string, string | Uint8Array | object>): string {
  const folder = join(root, `folder-${count++}`);
  mkdirSync(folder);
  for (const [name, content] of Object.entries(files)) {
    const isRaw = typeof content === 'string' || content instanceof Uint8Array;
    put(folder, name, isRaw ? content : JSON.stringify(content));
  }
  return folder;
}

const tensorsNamed = (...names: string[]) =>
  safetensorsBytes(
    Object.fromEntries(
      names.map((name, i) => [name, { dtype: 'F32', shape: [1], data_offsets: [4 * i, 4 * i + 4] }]),
    ),
    4 * names.length,
  );
const config = { model_type: 'llama' };
const index = 'model.safetensors.index.json';

describe('openCheckpoint', () => {
  it('opens a folder with one safetensors file', () => {
    const folder = folderOf({
      'config.json': config,
      'generation_config.json': { eos_token_id: 2 },
      'tokenizer.json': '{}',
      'chat_template.jinja': 'x',
      'model.safetensors': tensorsNamed('a', 'b'),
    });
    const model = openCheckpoint(folder);
    if (model.kind !== 'huggingface') throw new Error(model.kind);
    expect(model.config).toEqual(config);
    expect(model.generationConfig).toEqual({ eos_token_id: 2 });
    expect(model.textFiles).toEqual({
      tokenizer: join(folder, 'tokenizer.json'),
      chatTemplate: join(folder, 'chat_template.jinja'),
    });
    expect([...model.tensors.names()]).toEqual(['a', 'b']);
  });

  it('opens a sharded folder, from the folder or from any shard', () => {
    const folder = folderOf({
      'config.json': config,
      '1.safetensors': tensorsNamed('a', 'unlisted'),
      '2.safetensors': tensorsNamed('b'),
      'other.safetensors': tensorsNamed('c'),
      [index]: { metadata: {}, weight_map: { a: '1.safetensors', b: '2.safetensors' } },
    });
    for (const path of [folder, join(folder, '2.safetensors')]) {
      const { tensors } = openCheckpoint(path);
      expect([...tensors].map(({ name, path }) => [name, basename(path)])).toEqual([
        ['a', '1.safetensors'],
        ['b', '2.safetensors'],
      ]);
    }
    expect([...openCheckpoint(join(folder, 'other.safetensors')).tensors.names()]).toEqual(['c']);
  });

  it('prefers the single file to the index', () => {
    const folder = folderOf({
      'config.json': config,
      'model.safetensors': tensorsNamed('a'),
      [index]: { weight_map: { b: 'b.safetensors' } },
    });
    expect([...openCheckpoint(folder).tensors.names()]).toEqual(['a']);
  });

  it('knows a file by its first bytes', () => {
    const folder = folderOf({
      'config.json': config,
      'model.safetensors': ggufBytes({}),
      'x.gguf': tensorsNamed('a'),
    });
    expect(openCheckpoint(join(folder, 'model.safetensors')).kind).toBe('gguf');
    expect(openCheckpoint(join(folder, 'x.gguf')).kind).toBe('huggingface');
  });

  it('opens the one GGUF file of a folder', () => {
    expect(openCheckpoint(folderOf({ 'x.gguf': ggufBytes({}), 'README.md': '' })).kind).toBe('gguf');
  });

  const weights = { 'model.safetensors': tensorsNamed('a') };
  const sharded = (map: unknown) => ({ 'config.json': config, [index]: { weight_map: map } });
  it.each<[string, Record<string, string | Uint8Array | object>, string, RegExp]>([
    ['an empty folder', {}, 'ERR_FORMAT', /without config.json and with 0 GGUF files/],
    [
      'two GGUF files',
      { 'a.gguf': ggufBytes({}), 'b.gguf': ggufBytes({}) },
      'ERR_FORMAT',
      /with 2 GGUF files/,
    ],
    ['no weights', { 'config.json': config }, 'ERR_IO', /got no weights/],
    [
      'a config that is not JSON',
      { ...weights, 'config.json': '{"a":}' },
      'ERR_FORMAT',
      /config.json\] got '}' at byte 5/,
    ],
    [
      'a config that is a list',
      { ...weights, 'config.json': '[]' },
      'ERR_FORMAT',
      /config.json.*not an object/,
    ],
    ['an empty config', { ...weights, 'config.json': '' }, 'ERR_FORMAT', /config.json/],
    [
      'a config with a key twice',
      { ...weights, 'config.json': '{"a":[{"b":1,"b":2}]}' },
      'ERR_FORMAT',
      /"b" twice/,
    ],
    [
      'a config too deep',
      { ...weights, 'config.json': `{"a":${'['.repeat(1e5)}` },
      'ERR_FORMAT',
      /deeper than 64/,
    ],
    ['a config with NaN', { ...weights, 'config.json': '{"a":NaN}' }, 'ERR_FORMAT', /expected a JSON value/],
    ['a config with 01', { ...weights, 'config.json': '{"a":01}' }, 'ERR_FORMAT', /expected a JSON value/],
    [
      'a generation config that is not JSON',
      { ...weights, 'config.json': config, 'generation_config.json': 'x' },
      'ERR_FORMAT',
      /generation_config.json/,
    ],
    ['an index without a map', sharded(undefined), 'ERR_FORMAT', /index.json: key "weight_map"/],
    ['an index with a list', sharded([]), 'ERR_FORMAT', /weight_map/],
    ['a shard that is no text', sharded({ a: 1 }), 'ERR_FORMAT', /tensor "a"\] got a file name that is not/],
    ['a shard in another folder', sharded({ a: '../model.safetensors' }), 'ERR_FORMAT', /plain name/],
    ['a shard with a full path', sharded({ a: '/etc/passwd' }), 'ERR_FORMAT', /plain name/],
    ['a shard on another drive', sharded({ a: 'C:x.safetensors' }), 'ERR_FORMAT', /plain name/],
    ['a shard with a backslash', sharded({ a: '..\\x' }), 'ERR_FORMAT', /plain name/],
    ['a shard called ..', sharded({ a: '..' }), 'ERR_FORMAT', /plain name/],
    ['a missing shard', sharded({ a: 'gone.safetensors' }), 'ERR_IO', /gone.safetensors\] got ENOENT/],
    [
      'a tensor that its shard lacks',
      { ...sharded({ z: 'x.safetensors' }), 'x.safetensors': tensorsNamed('a') },
      'ERR_FORMAT',
      /x.safetensors: tensor "z"\] got no such tensor/,
    ],
    [
      'a damaged shard',
      { ...sharded({ a: 'x.safetensors' }), 'x.safetensors': tensorsNamed('a').subarray(0, -1) },
      'ERR_FORMAT',
      /x.safetensors: tensor "a"/,
    ],
  ])('refuses %s', (_, files, code, message) => {
    const error = errorOf(() => openCheckpoint(folderOf(files)));
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });

  it('says what another file is', () => {
    const folder = folderOf({ 'a.bin': 'PK\x03\x04 and more', 'b.bin': Buffer.alloc(99), 'c.bin': 'x' });
    expect(errorOf(() => openCheckpoint(join(folder, 'a.bin'))).hint).toContain('PyTorch');
    for (const name of ['b.bin', 'c.bin']) {
      expect(errorOf(() => openCheckpoint(join(folder, name))).message).toContain(
        `${name}] got a file of another`,
      );
    }
    expect(errorOf(() => openCheckpoint(join(folder, 'none'))).code).toBe('ERR_IO');
  });
});

describe('TensorTable', () => {
  const entry = (name: string, format: 'f32' | 'iq3_s' = 'f32') =>
    ({ name, shape: [2, 32], format, path: 'file.gguf', offset: 0, bytes: 0 }) as const;
  const table = new TensorTable('file.gguf', [
    entry('blk.0.attn_q.weight'),
    entry('blk.1.attn_q.weight'),
    entry('blk.1.attn_k.weight'),
    entry('other', 'iq3_s'),
  ]);

  it('names the file and the nearest tensors when there is none', () => {
    const error = errorOf(() => table.get('blk.1.attn_v.weight'));
    expect(error.message).toBe(
      '[file.gguf: tensor "blk.1.attn_v.weight"] got no such tensor, expected it to be there',
    );
    expect(error.hint).toMatch(/nearest names: "blk.1.attn_[qk].weight", "blk.1.attn_[qk].weight"/);
  });

  it('checks the shape and the format', () => {
    expect(table.require('blk.0.attn_q.weight', [2, 32])).toBe(table.get('blk.0.attn_q.weight'));
    for (const shape of [[32, 2], [2], [2, 32, 1], []]) {
      expect(errorOf(() => table.require('blk.0.attn_q.weight', shape)).message).toContain(
        'got shape [2, 32]',
      );
    }
    const error = errorOf(() => table.require('other', [2, 32]));
    expect(error.code).toBe('ERR_UNSUPPORTED');
    expect(error.message).toMatch(/"other"\] got format iq3_s, expected one of .*q6_k/);
  });
});

describe.skipIf(fixturesFolder === undefined)('fixtures', () => {
  const configs = walkFiles(fixturesFolder, (name) => name === 'config.json');
  it.each(configs.map((path) => [basename(dirname(path)), dirname(path)]))('%s', (_, folder) => {
    const model = openCheckpoint(folder);
    if (model.kind !== 'huggingface') throw new Error(model.kind);
    expect(typeof model.config.model_type).toBe('string');
    expect(statSync(model.textFiles.tokenizer ?? '').isFile()).toBe(true);
    expect(model.tensors.size).toBeGreaterThan(0);
    expectSound(model.tensors);
  });
});
