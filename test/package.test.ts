import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const node = (...args: string[]) => execFileSync(process.execPath, args, { cwd: root, encoding: 'utf8' });

describe('the package', () => {
  const print = "console.log(JSON.stringify(Object.keys(s).filter((k) => k !== 'default').sort()))";
  const required = JSON.parse(node('-e', `const s = require('switchyard'); ${print}`));
  const imported = JSON.parse(node('--input-type=module', '-e', `import * as s from 'switchyard'; ${print}`));

  it('can be required and imported, with the same names', () => {
    expect(required).toContain('SwitchyardError');
    expect(imported).toEqual(required);
  });

  it('hides its inner files', () => {
    const script =
      "try { require('switchyard/dist/core/errors.js') } catch (error) { console.log(error.code) }";
    expect(node('-e', script)).toBe('ERR_PACKAGE_PATH_NOT_EXPORTED\n');
  });

  it('packs what an install needs, and no tests', () => {
    const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
    const args = ['pack', '--dry-run', '--json', '--ignore-scripts'];
    const [{ files }] = JSON.parse(
      execFileSync(npm, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }),
    );
    const names = (files as { path: string }[]).map((file) => file.path);
    expect(names).toEqual(
      expect.arrayContaining([
        'LICENSE',
        'README.md',
        'binding.gyp',
        'dist/index.d.ts',
        'dist/index.js',
        'native/binding/addon.cc',
        'native/runtime/error.h',
        'scripts/build-native.mjs',
        'scripts/headers/common.gypi',
        'scripts/native-sources.mjs',
      ]),
    );
    expect(names.filter((name) => /^(test|bench)\/|^native\/test\//.test(name))).toEqual([]);
  });
});
