// One file, one idea: a file of more than 600 lines fails. Usage: node scripts/check-size.mjs [root]
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const kMaxLines = 600;
const root = path.resolve(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)));

const long = [];
for (const folder of ['src', 'native', 'test', 'bench', 'scripts', 'examples']) {
  if (!existsSync(path.join(root, folder))) continue;
  for (const name of readdirSync(path.join(root, folder), { recursive: true })) {
    const file = path.posix.join(folder, name.replaceAll('\\', '/'));
    if (!/\.(ts|mts|mjs|js|cc|h|inl|cu|cuh|py)$/.test(file) || /(^|\/)(node_modules|\.venv)\//.test(file))
      continue;
    const lines = readFileSync(path.join(root, file), 'utf8').split('\n').length - 1;
    if (lines > kMaxLines) long.push(`${file}: ${lines} lines, expected at most ${kMaxLines}`);
  }
}
for (const line of long) console.error(line);
console.log(`size: ${long.length} files over ${kMaxLines} lines`);
process.exit(long.length === 0 ? 0 : 1);
