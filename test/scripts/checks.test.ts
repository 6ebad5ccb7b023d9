import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const root = fileURLToPath(new URL('../..', import.meta.url));
let tree: string;

/** Runs a script of scripts/ over a small tree of files. */
function run(script: string, files: Record<string, string>) {
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.join(tree, path.dirname(file)), { recursive: true });
    writeFileSync(path.join(tree, file), text);
  }
  const result = spawnSync(process.execPath, [path.join(root, 'scripts', script), tree], {
    encoding: 'utf8',
  });
  return { status: result.status, output: result.stdout + result.stderr };
}

beforeEach(() => {
  tree = mkdtempSync(path.join(tmpdir(), 'switchyard-checks-'));
  mkdirSync(path.join(tree, 'docs'));
  cpSync(path.join(root, 'docs/architecture.md'), path.join(tree, 'docs/architecture.md'));
});
afterEach(() => rmSync(tree, { recursive: true }));

describe('check-layers', () => {
  it.each([
    ['src/nn/a.ts', "import { b } from '../core/b.js';"],
    ['src/generate/a.ts', "import { b } from '../nn/b.js';"],
    ['src/cli/a.ts', "export * from '../generate/b.js';"],
    ['src/index.ts', "export * from './cli/b.js';"],
    ['src/core/a.ts', "import { readFileSync } from 'node:fs';"],
    ['src/core/a.ts', "import { b } from './ops/b.js';"],
    ['native/cpu/a.cc', '#include "runtime/b.h"'],
    ['native/binding/a.cc', '#include "runtime/b.h"'],
    ['native/test/a.cc', '#include "cpu/b.h"'],
    ['native/runtime/a.cc', '#include <vector>'],
  ])('%s may hold %s', (file, text) => {
    expect(run('check-layers.mjs', { [file]: text })).toMatchObject({ status: 0 });
  });

  it.each([
    ['src/core/a.ts', "import { b } from '../nn/b.js';"],
    ['src/core/a.ts', "import type { B } from '../models/b.js';"],
    ['src/core/a.ts', "import {\n  b,\n} from '../nn/b.js';"],
    ['src/core/deep/a.ts', "const b = await import('../../moe/b.js');"],
    ['src/nn/a.ts', "import { b } from '../moe/b.js';"],
    ['src/nn/a.ts', "import { b } from 'switchyard';"],
    ['src/nn/a.ts', "import { b } from '../index.js';"],
    ['src/models/a.ts', "import { b } from '../generate/b.js';"],
    ['src/nowhere/a.ts', "import { b } from '../core/b.js';"],
    ['native/runtime/a.cc', '#include "cpu/b.h"'],
    ['native/formats/a.h', '#include "runtime/b.h"'],
    ['native/cpu/isa/a.inl', '  # include "../../binding/b.h"'],
  ])('%s must not hold %s', (file, text) => {
    const { status, output } = run('check-layers.mjs', { [file]: text });
    expect(status).toBe(1);
    expect(output).toContain(`${file}:`);
  });

  it('says where', () => {
    const files = { 'src/core/a.ts': "// first\nimport { b } from '../nn/b.js';" };
    expect(run('check-layers.mjs', files).output).toContain(
      "src/core/a.ts:2: src/core must not import '../nn/b.js'",
    );
  });
});

describe('check-size', () => {
  it.each([
    [600, 0],
    [601, 1],
  ])('%i lines: status %i', (lines, status) => {
    expect(run('check-size.mjs', { 'src/core/a.ts': 'x;\n'.repeat(lines) }).status).toBe(status);
  });
});
