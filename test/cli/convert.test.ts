import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { jsonOf, runCli } from '../helpers/cli.js';
import { fixturesFolder } from '../helpers/fixtures.js';

describe.skipIf(fixturesFolder === undefined)('switchyard convert', () => {
  const place = mkdtempSync(join(tmpdir(), 'switchyard-convert-'));
  afterAll(() => rmSync(place, { recursive: true }));
  const mixtral = join(fixturesFolder ?? '', 'mixtral');

  it('writes GGUF, a folder and a packed file, and all give the same text', async () => {
    const gguf = join(place, 'a.gguf');
    const folder = join(place, 'b');
    const packed = join(place, 'c.switchyard');
    expect(jsonOf(await runCli(['convert', mixtral, gguf, '--json']))).toEqual({
      path: gguf,
      bytes: expect.any(Number),
    });
    const second = await runCli(['convert', gguf, folder, '--dtype', 'f32', '--shard', '0.0001']);
    expect(second).toMatchObject({ code: 0, stdout: expect.stringMatching(/KiB|KB|MiB|MB/), stderr: '' });
    expect(existsSync(join(folder, 'model.safetensors.index.json'))).toBe(true);
    expect((await runCli(['convert', folder, packed])).code).toBe(0);
    const texts: unknown[] = [];
    for (const model of [mixtral, gguf, folder, packed]) {
      const args = [
        'generate',
        '--model',
        model,
        '--prompt',
        'The gate',
        '--max-tokens',
        '8',
        '--temperature',
        '0',
      ];
      texts.push(jsonOf(await runCli([...args, '--json', '--dtype', 'f32'])).tokens);
    }
    for (const text of texts) expect(text).toEqual(texts[0]);
  });

  it('says what is wrong', async () => {
    for (const args of [
      [mixtral, mixtral],
      [mixtral, join(place, 'x.gguf'), '--dtype', 'f64'],
      [mixtral, join(place, 'y'), '--shard', '0'],
      [mixtral],
    ])
      expect(jsonOf(await runCli(['convert', ...args, '--json'])).error).toMatchObject({
        code: 'ERR_OPTION',
      });
    const opt = await runCli(['convert', join(fixturesFolder!, 'opt_pre'), join(place, 'o.gguf')]);
    expect(opt).toMatchObject({ code: 1, stderr: expect.stringContaining('architecture') });
  });
});
