// Checks that imports only point down: the table of rooms in docs/architecture.md is the rule, for the imports of src
// and for the includes of native. Usage: node scripts/check-layers.mjs [root]
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(process.argv[2] ?? fileURLToPath(new URL('..', import.meta.url)));

/** room -> the rooms it may import, e.g. 'src/nn' -> Set { 'src/core' } */
function readTable() {
  const text = readFileSync(path.join(root, 'docs/architecture.md'), 'utf8');
  const rows = [...text.matchAll(/^\| `((?:src|native)\/\w+)` +\|.*\| ([^|]+?) *\|$/gm)];
  const rooms = rows.map(([, room]) => room);
  const table = new Map();
  const words = new Map(rows.map(([, room, may]) => [room, may]));
  const allowed = (room) => {
    if (table.has(room)) return table.get(room);
    const set = new Set();
    table.set(room, set);
    const tree = room.split('/')[0];
    for (const word of words.get(room).split(/,\s*/)) {
      const below = word.endsWith(' and below');
      const target = `${tree}/${word.replace(' and below', '')}`;
      if (word === '(nothing)') continue;
      if (word === 'everything') for (const other of rooms) set.add(other);
      else if (!words.has(target)) throw new Error(`the row of ${room} names '${word}', which is no room`);
      else set.add(target);
      if (below) for (const other of allowed(target)) set.add(other);
    }
    return set;
  };
  for (const room of rooms) allowed(room);
  if (table.size === 0) throw new Error('docs/architecture.md has no table of rooms');
  return table;
}

function* files(folder, extension) {
  if (!existsSync(path.join(root, folder))) return;
  for (const name of readdirSync(path.join(root, folder), { recursive: true })) {
    const file = path.posix.join(folder, name.replaceAll('\\', '/'));
    if (extension.test(file)) yield file;
  }
}

const lineOf = (text, index) => text.slice(0, index).split('\n').length;

/** [{file, line, spelled, target}]: every import of our own files, with the file it means from the root. */
function* imports() {
  for (const file of files('src', /\.ts$/)) {
    const text = readFileSync(path.join(root, file), 'utf8');
    for (const match of text.matchAll(/\b(?:from|import)\s*\(?\s*['"](\.[^'"]*|switchyard)['"]/g)) {
      const spelled = match[1];
      // The package by its own name is the public index, which stands above every room.
      const target =
        spelled === 'switchyard' ? 'src/index.js' : path.posix.join(path.posix.dirname(file), spelled);
      yield { file, line: lineOf(text, match.index), spelled, target };
    }
  }
  for (const file of files('native', /\.(cc|h|inl|cu|cuh)$/)) {
    const text = readFileSync(path.join(root, file), 'utf8');
    for (const match of text.matchAll(/^\s*#\s*include\s+"([^"]+)"/gm)) {
      const beside = path.posix.join(path.posix.dirname(file), match[1]);
      const target = existsSync(path.join(root, beside)) ? beside : path.posix.join('native', match[1]);
      yield { file, line: lineOf(text, match.index), spelled: match[1], target };
    }
  }
}

const table = readTable();
const roomOf = (file) => file.split('/').slice(0, 2).join('/');
const mistakes = [];
for (const { file, line, spelled, target } of imports()) {
  const [from, to] = [roomOf(file), roomOf(target)];
  // The public index and the native tests stand above every room.
  if (from === to || file === 'src/index.ts' || from === 'native/test') continue;
  if (!table.has(from))
    mistakes.push(`${file}: the room ${from} is not in the table of docs/architecture.md`);
  else if (!table.get(from).has(to)) {
    const may = [...table.get(from)].join(', ') || 'nothing';
    mistakes.push(`${file}:${line}: ${from} must not import '${spelled}' (it may import ${may})`);
  }
}
for (const mistake of new Set(mistakes)) console.error(mistake);
console.log(`layers: ${table.size} rooms, ${mistakes.length} wrong imports`);
process.exit(mistakes.length === 0 ? 0 : 1);
