import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { reportModel } from '../../src/cli/model-report.js';
import { openDescribed } from '../../src/models/read/load.js';
import { jsonOf, runCli } from '../helpers/cli.js';
import { readJson } from '../helpers/tokenizers.js';

const configs: Record<string, { model_type: string }> = readJson(
  join(import.meta.dirname, '../fixtures/published/configs.json'),
);
const place = mkdtempSync(join(tmpdir(), 'switchyard-published-'));
afterAll(() => rmSync(place, { recursive: true }));

function folderOf(name: string, changes: object = {}): string {
  const folder = mkdtempSync(join(place, name));
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...configs[name], ...changes }));
  return folder;
}

/**
 * What the makers say, in billions: total and active per token. Most count the embedding as active; 'rows' marks those who
 * leave it out, as a token reads one row of it.
 */
const PUBLISHED: readonly (readonly [name: string, total: number, active: number, embedding?: 'rows'])[] = [
  ['mixtral-8x7b', 46.7, 12.9],
  ['mixtral-8x22b', 140.6, 39.2],
  ['deepseek-moe-16b', 16.4, 2.8],
  ['deepseek-v2', 236, 21],
  ['deepseek-v2-lite', 15.7, 2.4, 'rows'],
  ['deepseek-v3', 671, 37, 'rows'],
  ['olmoe-1b-7b', 6.9, 1.3],
  ['qwen1.5-moe-a2.7b', 14.3, 2.7],
  ['qwen3-30b-a3b', 30.5, 3.3],
  ['glm-4.5', 353, 33, 'rows'],
  ['gpt-oss-20b', 20.9, 3.6, 'rows'],
  ['phi-3.5-moe', 41.9, 6.6],
  ['granite-3.0-3b-a800m', 3.3, 0.88],
  ['nllb-moe-54b', 54.5, 3.75],
  ['switch-base-8', 0.62, 0.22],
  ['llama-3-8b', 8.03, 8.03],
  ['gpt2', 0.1244, 0.1244],
  ['gemma-2b', 2.51, 2.51],
  ['bloom-560m', 0.559, 0.559],
  ['opt-125m', 0.125, 0.125],
  ['bert-base-uncased', 0.1095, 0.1095],
  ['minilm-l6', 0.0227, 0.0227],
  ['t5-base', 0.223, 0.223],
  ['flan-t5-base', 0.2476, 0.2476],
  ['bart-base', 0.139, 0.139],
];

describe('published configs, without weights', () => {
  it.each(PUBLISHED.map((row) => [...row] as [string, number, number, 'rows'?]))(
    '%s: %d B, %d B active',
    (...row) => {
      const [name, total, active, embedding] = row as [string, number, number, 'rows'?];
      const { parameters, counted, agree, memory } = reportModel(openDescribed(folderOf(name)), 4096);
      const said = embedding === 'rows' ? parameters.activeWithoutEmbedding : parameters.active;
      expect(Math.abs(parameters.total / 1e9 / total - 1)).toBeLessThan(0.01);
      expect(Math.abs(said / 1e9 / active - 1)).toBeLessThan(0.03);
      expect([counted, agree]).toEqual([null, null]);
      expect(memory?.total).toBeGreaterThan(parameters.total * (name === 'gpt-oss-20b' ? 0.5 : 1));
    },
  );

  it('are all in the table', () => {
    expect(PUBLISHED.map(([name]) => name).sort()).toEqual(Object.keys(configs).sort());
  });

  it('give the cache of a token by the heads that keep one', () => {
    const perToken = (name: string) =>
      reportModel(openDescribed(folderOf(name)), 1, 'f16').cacheBytesPerToken;
    // layers · (keys + values) · heads of keys · head width · 2 bytes
    expect(perToken('mixtral-8x7b')).toBe(32 * 2 * 8 * 128 * 2);
    expect(perToken('qwen3-30b-a3b')).toBe(48 * 2 * 4 * 128 * 2);
    expect(perToken('llama-3-8b')).toBe(32 * 2 * 8 * 128 * 2);
    expect(perToken('bert-base-uncased')).toBe(0);
    // a small vector and a rotary part a layer; the layer that predicts further ahead has a cache of its own
    expect(perToken('deepseek-v3')).toBe(61 * (512 + 64) * 2);
  });

  it('take the size of weights from the type that they name', () => {
    const weights = (changes: object) =>
      reportModel(openDescribed(folderOf('gpt2', changes)), 1).memory!.weights;
    expect(weights({ torch_dtype: 'float32' }) / weights({ torch_dtype: 'float16' })).toBeCloseTo(2, 2);
    expect(weights({ dtype: 'bfloat16' })).toBe(weights({}));
  });

  it('take the size of weights from what is quantised', () => {
    const perParameter = (name: string) => {
      const { memory, parameters } = reportModel(openDescribed(folderOf(name)), 1);
      return memory!.weights / parameters.total;
    };
    // FP8 with a scale for 128 values, MXFP4 with one for 32; embedding and head in 16 bits
    expect(perParameter('deepseek-v3')).toBeCloseTo(1.034, 2);
    expect(perParameter('gpt-oss-20b')).toBeCloseTo(0.66, 1);
    expect(perParameter('deepseek-v2')).toBeCloseTo(2, 2);
  });

  it('are printed within 80 columns, and as JSON', { timeout: 60_000 }, async () => {
    for (const name of ['mixtral-8x7b', 'bert-base-uncased', 'switch-base-8']) {
      const folder = join(place, name.slice(0, 3));
      mkdirSync(folder);
      writeFileSync(join(folder, 'config.json'), JSON.stringify(configs[name]));
      const { stdout, stderr, code } = await runCli(['inspect', folder]);
      expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
      expect(stdout.split('\n').filter((line) => line.length > 80)).toEqual([]);
      expect(stdout).toContain('counted by the config alone');
      const json = jsonOf(await runCli(['inspect', folder, '--json']));
      expect(json).toMatchObject({ counted: null, formats: [], parameters: { total: expect.any(Number) } });
    }
    const bare = mkdtempSync(join(place, 'bare'));
    expect((await runCli(['inspect', bare])).stderr).toContain('config.json');
  });
});
