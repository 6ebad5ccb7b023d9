// Commands on encoders and encoder-decoders.
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { jsonOf, runCli } from '../helpers/cli.js';
import { writeRandomFolder } from '../helpers/random-folder.js';
import { TINY_BERT, TINY_SWITCH } from '../helpers/tiny-stacks.js';

const root = temporaryFolder();
const [bert, t5] = [join(root, 'bert'), join(root, 'switch')];
beforeAll(async () => {
  await writeRandomFolder(bert, TINY_BERT);
  await writeRandomFolder(t5, TINY_SWITCH);
});

describe('embed', () => {
  it('prints unit vectors as one object', async () => {
    const run = await runCli(['embed', '--model', bert, '--text', 'a cat', 'the dog', '--json']);
    const { pooling, vectors } = jsonOf(run) as {
      pooling: string;
      vectors: { text: string; vector: number[] }[];
    };
    expect([pooling, ...vectors.map((v) => v.text)]).toEqual(['mean', 'a cat', 'the dog']);
    for (const { vector } of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, 5);
  });

  it('prints how alike texts are', async () => {
    const run = await runCli(['embed', '--model', bert, '--pooling', 'cls', '--text', 'x', 'x', 'yz']);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toMatch(/3 vectors of 12 numbers, pooling cls/);
    expect(run.stdout).toMatch(/^2 +1\.000 +1\.000 +x$/m);
  });

  it.each([
    [['embed', '--model', 'x'], /\[embed\] got no text, expected --text TEXT/],
    [
      ['embed', '--model', 'x', '--text', 'a', '--pooling', 'most'],
      /\[--pooling\] got 'most'|expected one of/,
    ],
    [['embed', '--text', 'a'], /\[embed\] got no model/],
  ])('refuses %j', async (args, message) => {
    const run = await runCli(args);
    expect(run.code).toBe(1);
    expect(run.stderr).toMatch(message);
  });

  it('needs an encoder', async () => {
    const run = await runCli(['embed', '--model', t5, '--text', 'a']);
    expect(run.stderr).toMatch(/\[embed\] got an encoder-decoder model, expected an encoder/);
  });
});

describe('other commands', () => {
  it('generate answers with an encoder-decoder', async () => {
    const args = ['generate', '--model', t5, '--prompt', 'hi', '--max-tokens', '3', '--ignore-eos', '--json'];
    const { tokens } = jsonOf(await runCli(args)) as { tokens: number[] };
    expect(tokens.length).toBe(3);
  });

  it('generate needs a decoder', async () => {
    const run = await runCli(['generate', '--model', bert, '--prompt', 'hi']);
    expect(run.stderr).toMatch(/\[generate\] got an encoder model, expected a model with a decoder/);
  });

  it.each([
    [bert, 'encoder', /positions +learned, 64/],
    [t5, 'encoder-decoder', /sparse layers +encoder 1; decoder 1/],
  ])('inspect tells %s', async (path, model, line) => {
    expect(jsonOf(await runCli(['inspect', path, '--json']))).toMatchObject({ model, agree: true });
    const run = await runCli(['inspect', path]);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toMatch(line);
    expect(run.stdout).toMatch(/config and tensors agree/);
  });
});
