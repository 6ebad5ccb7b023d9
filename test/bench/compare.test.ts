import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';
import { makeFigure } from '../../bench/harness/figure.js';

const folder = mkdtempSync(path.join(tmpdir(), 'bench-compare-'));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(name: string, machine: string, value: number): string {
  const setting = { case: 'c', threads: 2, tier: 'avx2', machine };
  const peers = [{ name: 'p', values: [1] }];
  const file = path.join(folder, name);
  writeFileSync(
    file,
    `${JSON.stringify(makeFigure(setting, { metric: 'm', unit: 'ms', values: [value], peers }))}\n`,
  );
  return file;
}
const root = fileURLToPath(new URL('../..', import.meta.url));
const compare = (...files: string[]): Promise<{ stdout: string }> =>
  promisify(execFile)(process.execPath, ['--import', 'tsx', 'bench/compare.ts', ...files], { cwd: root });

it('compares files of one machine', async () => {
  const { stdout } = await compare(fileOf('a', 'one', 4), fileOf('b', 'one', 2));
  expect(stdout).toContain('2.000');
});

it('refuses files of different machines', async () => {
  const refused = compare(fileOf('a', 'one', 4), fileOf('b', 'two', 2));
  await expect(refused).rejects.toMatchObject({
    code: 1,
    stderr: expect.stringMatching(/2 machines.*'one' and 'two'/),
  });
});

it('says how it is called', async () => {
  await expect(compare()).rejects.toMatchObject({ code: 2, stderr: expect.stringContaining('usage') });
});
