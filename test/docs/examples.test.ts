/** The examples of the pages run, have right types, and print what they say that they print. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { format } from 'node:util';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import * as moe from '../../src/moe/index.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const folder = path.join(root, 'build/docs-examples'); // inside the root, so that 'switchyard' means src/index.ts
const pageOf = (name: string): string => readFileSync(path.join(root, name), 'utf8');
/** Above a block that cannot run here; the words after it say why. */
const SKIPPED = /<!-- not run: .+ -->\s*$/;

interface Example {
  readonly page: string;
  readonly line: number;
  readonly code: string;
  readonly file: string;
}

/** The ts blocks of a page but those that are marked as not run. */
function examplesOf(page: string): Example[] {
  const text = pageOf(page);
  return [...text.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].flatMap(({ index, 1: code }) => {
    if (SKIPPED.test(text.slice(0, index))) return [];
    const line = text.slice(0, index).split('\n').length + 1;
    const file = path.join(folder, `${path.basename(page, '.md')}-${line}.ts`);
    return [{ page, line, code: code as string, file }];
  });
}

const EXAMPLES = ['README.md', 'docs/moe.md', 'docs/decoding.md'].flatMap(examplesOf);

beforeAll(() => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const { file, code } of EXAMPLES) writeFileSync(file, code);
});
afterEach(() => vi.restoreAllMocks());

describe('examples', () => {
  it('are found on both pages', () => {
    const count = (page: string): number => EXAMPLES.filter((e) => e.page === page).length;
    expect(count('README.md')).toBeGreaterThanOrEqual(1);
    expect(count('docs/moe.md')).toBeGreaterThanOrEqual(moe.gatingNames.length);
  });

  it.each(EXAMPLES.map((e) => [`${e.page}:${e.line}`, e] as const))('%s', async (_, { file, code }) => {
    const printed: string[] = [];
    vi.spyOn(console, 'log').mockImplementation((...values) => void printed.push(format(...values)));
    await import(/* @vite-ignore */ file);
    const promised = [...code.matchAll(/\/\/ → (.*)$/gm)].map(([, text]) => text);
    expect(printed.map((text) => text.replace(/\s+/g, ' '))).toEqual(promised);
  });

  it('have right types', () => {
    const config = path.join(folder, 'tsconfig.json');
    const options = {
      extends: '../../tsconfig.test.json',
      compilerOptions: { rootDir: '../..', paths: { switchyard: ['../../src/index.ts'] } },
      include: ['*.ts'],
    };
    writeFileSync(config, JSON.stringify(options));
    const tsc = path.join(root, 'node_modules/typescript/bin/tsc');
    const { status, stdout } = spawnSync(process.execPath, [tsc, '-p', config], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(stdout).toBe('');
    expect(status).toBe(0);
  });
});

describe('docs/moe.md', () => {
  const page = pageOf('docs/moe.md');

  it.each(moe.gatingNames)('%s has a section with a picture, a source and an example', (name) => {
    const section = page.split(/^##+ /m).find((text) => text.startsWith(`${name}\n`)) ?? '';
    expect(section).toContain(`](images/gating-${name}.svg)`);
    expect(section).toMatch(/(19|20)\d\d/);
    expect(section).toContain('```ts');
  });

  it('has no section of a policy that does not exist', () => {
    const sections = [...page.matchAll(/^### (.+)$/gm)].map(([, name]) => name);
    expect(sections.toSorted()).toEqual([...moe.gatingNames].sort());
  });
});

describe('links of the pages', () => {
  const pages = ['README.md', 'CONTRIBUTING.md', 'docs/moe.md', 'docs/architecture.md'];
  const links = pages.flatMap((page) =>
    [...pageOf(page).matchAll(/\]\(([^)\s]+)\)/g)]
      .map(([, link]) => link as string)
      .filter((link) => !/^https?:/.test(link))
      .map((link) => [page, link] as const),
  );
  it.each(links)('%s: %s', (page, link) => {
    const [file, anchor] = link.split('#') as [string, string?];
    const target = file ? path.posix.join(path.posix.dirname(page), file) : page;
    expect(existsSync(path.join(root, target)), target).toBe(true);
    if (anchor === undefined) return;
    const anchors = [...pageOf(target).matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
      (title as string)
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    );
    expect(anchors).toContain(anchor);
  });
});
