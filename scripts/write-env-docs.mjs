// Writes docs/env.md from the table in src/core/env.ts. Run `npm run build:ts` first.
// Usage: node scripts/write-env-docs.mjs [--check]
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** The page, from `VARIABLES` of src/core/env.ts. */
export function envPage(variables) {
  const rows = Object.values(variables).map(
    ({ name, about }) => `| \`${name}\` | ${about.replaceAll('|', '\\|')} |`,
  );
  return [
    '# Environment variables',
    'Written from `src/core/env.ts` by `scripts/write-env-docs.mjs`. A value that is not allowed is an error that names the',
    'variable.',
    '',
    '| variable | meaning |',
    '|---|---|',
    ...rows,
    '',
  ].join('\n');
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const built = new URL('../dist/core/env.js', import.meta.url);
  const page = fileURLToPath(new URL('../docs/env.md', import.meta.url));
  if (!existsSync(built)) {
    console.error('write-env-docs: dist/core/env.js is missing, run `npm run build:ts` first');
    process.exit(1);
  }
  const { VARIABLES } = await import(built.href);
  const text = envPage(VARIABLES);
  if (process.argv.includes('--check')) {
    const current = existsSync(page) && readFileSync(page, 'utf8') === text;
    console.log(`write-env-docs: docs/env.md is ${current ? 'current' : 'out of date'}`);
    process.exit(current ? 0 : 1);
  }
  writeFileSync(page, text);
}
