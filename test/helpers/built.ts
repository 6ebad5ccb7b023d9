import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { walkFiles } from './fixtures.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const changed = (path: string): number => (existsSync(path) ? statSync(path).mtimeMs : 0);

/** Runs a script of this folder in a process of its own, on the built package (built anew where sources are younger). */
export async function runOnBuilt(script: string, args: readonly string[] = []): Promise<{ stdout: string }> {
  const built = changed(`${root}/dist/index.js`);
  if (walkFiles(`${root}/src`, (name) => name.endsWith('.ts')).some((file) => changed(file) > built))
    await promisify(execFile)('npm', ['run', 'build:ts'], { cwd: root, shell: process.platform === 'win32' });
  const path = fileURLToPath(new URL(script, import.meta.url));
  return promisify(execFile)(process.execPath, ['--expose-gc', path, ...args], { cwd: root });
}
