import { existsSync, readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));

/**
 * The folder of reference fixtures, or undefined where it is missing: then skip with `describe.skipIf`. In CI it must
 * be there.
 */
export const fixturesFolder = locate('SWITCHYARD_FIXTURES', '../shared/fixtures');

/** The folder with a real model, on the same terms. */
export const modelsFolder = locate('SWITCHYARD_MODELS', '../shared/models');

function locate(variable: string, byDefault: string): string | undefined {
  const folder = resolve(root, process.env[variable] ?? byDefault);
  if (existsSync(folder)) return folder;
  if (process.env.CI === 'true' || process.env[variable] !== undefined) {
    throw new Error(`${folder} is missing: set ${variable} to the folder`);
  }
  return undefined;
}

/** All files below `folder` (none where it is undefined) whose name passes, sorted. */
export function walkFiles(folder: string | undefined, passes: (name: string) => boolean): string[] {
  if (folder === undefined) return [];
  const found: string[] = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...walkFiles(path, passes));
    else if (passes(entry.name)) found.push(path);
  }
  return found.sort();
}
