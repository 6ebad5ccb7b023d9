import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';

const script = fileURLToPath(new URL('../../scripts/build-native.mjs', import.meta.url));

it.skipIf(process.platform === 'win32')('says in one sentence that the compiler is missing', () => {
  const env = { ...process.env, CXX: 'no-such-compiler -O2' };
  const { status, stdout, stderr } = spawnSync(process.execPath, [script], { env, encoding: 'utf8' });
  expect(status).toBe(1);
  expect(stdout).toBe('');
  expect(stderr).toMatch(/^switchyard: no C\+\+ compiler was found \(tried 'no-such-compiler'\).*\n$/);
});
