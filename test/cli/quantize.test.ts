import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { jsonOf, runCli } from '../helpers/cli.js';
import { tinyGguf, writeTinyFolder } from '../helpers/tiny-model.js';

const folder = temporaryFolder();
const model = join(folder, 'mixtral');
const text = join(folder, 'text.txt');
beforeAll(async () => {
  await writeTinyFolder(model, { nExperts: 5, topK: 2 });
  writeFileSync(text, 'a text of some length, from which a few windows can be cut. '.repeat(6));
});

describe('quantize', () => {
  it('writes a packed file that every command takes, and reports as one object', async () => {
    const out = join(folder, 'out.switchyard');
    const formats = ['--experts', 'int4', '--default', 'int8', '--router', 'f32'];
    const run = await runCli([
      'quantize',
      model,
      out,
      ...formats,
      '--text',
      text,
      '--window',
      '64',
      '--json',
    ]);
    expect(run.stderr).toBe('');
    const report = jsonOf(run) as {
      bytesBefore: number;
      bytesAfter: number;
      tensors: { name: string; to: string }[];
      quality: { model: { tokens: number }; compute: string[] };
    };
    expect(report.bytesAfter).toBeLessThan(report.bytesBefore / 3);
    expect(report.quality.model.tokens).toBeGreaterThan(100);
    expect(report.quality.compute).toEqual(['f32', 'int8']);
    const to = new Map(report.tensors.map((t) => [t.name, t.to]));
    expect(to.get('layers.1.router.weight')).toBe('f32');
    expect(to.get('layers.1.attention.q.weight')).toBe('int8');
    expect(to.get('layers.1.experts.down.weight')).toMatch(/^(q4|int4)/);

    const inspected = jsonOf(await runCli(['inspect', out, '--json'])) as Record<string, unknown>;
    expect(inspected).toMatchObject({
      kind: 'switchyard',
      agree: true,
      extra: [],
      moe: { nExperts: 5, topK: 2 },
    });
    const generated = await runCli([
      'generate',
      '--model',
      out,
      '--prompt',
      'a',
      '--max-tokens',
      '3',
      '--json',
    ]);
    expect(jsonOf(generated).tokens).toHaveLength(3);
    expect(jsonOf(await runCli(['routes', '--model', out, '--text', 'abc', '--json']))).toHaveProperty(
      'layers',
    );
  });

  it('drops experts, and prints tables without colours into a pipe', async () => {
    const out = join(folder, 'fewer.switchyard');
    const run = await runCli([
      'quantize',
      model,
      out,
      '--drop-experts',
      '0.4',
      '--text',
      text,
      '--tensors',
      '2',
    ]);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    for (const part of [
      'Dropped experts',
      'perplexity of the source (f32)',
      'the worst 2 of 18',
      'KL divergence',
    ])
      expect(run.stdout).toContain(part);
    expect(run.stdout).not.toContain('\u001b');
    expect(jsonOf(await runCli(['inspect', out, '--json']))).toMatchObject({ moe: { nExperts: 3 } });
  });

  it('says what it leaves out, and what it could not do', async () => {
    const odd = await writeTinyFolder(join(folder, 'odd'), { nExperts: 4, dFf: 40 });
    const run = await runCli(['quantize', odd, join(folder, 'odd.switchyard'), '--default', 'q8_0']);
    expect(run.stdout).toContain('not measured: no text was given (--text FILE)');
    expect(run.stdout).toContain('40 columns are no multiple of 32: f16 instead of q8_0');
  });

  it.each([
    [['--default', 'int9'], 'ERR_OPTION'],
    [['--experst', 'int8'], 'ERR_OPTION'],
    [['--drop-experts', '1'], 'ERR_OPTION'],
    [['--drop-experts', '4', '--text', text], 'ERR_OPTION'],
    [['--text', join(folder, 'none.txt')], 'ERR_IO'],
    [['--text', folder], 'ERR_IO'],
  ])('refuses %j', async (flags, code) => {
    const out = join(folder, 'refused.switchyard');
    const run = await runCli(['quantize', model, out, ...flags, '--json']);
    expect(run.code).toBe(1);
    expect(jsonOf(run)).toMatchObject({ error: { code } });
    expect(existsSync(out)).toBe(false);
  });
});

it('--packed-cache makes the second start a mapping', async () => {
  const path = join(folder, 'model.gguf');
  writeFileSync(path, tinyGguf('q4_0', { nExperts: 4 }));
  const args = [
    'generate',
    '--model',
    path,
    '--packed-cache',
    join(folder, 'cache'),
    '--prompt',
    'a',
    '--json',
  ];
  const [first, second] = [await runCli(args), await runCli(args)].map(jsonOf);
  expect(second?.tokens).toEqual(first?.tokens);
  expect(existsSync(join(folder, 'cache'))).toBe(true);
});
