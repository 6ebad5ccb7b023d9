/** npx tsx bench/compare.ts OLD.jsonl NEW.jsonl: how each figure changed between two `npm run bench -- --json`. */
import { readFileSync } from 'node:fs';
import { compareFigures, comparisonTable } from './harness/comparison.js';
import { parseFigures } from './harness/figure.js';

const [oldFile, newFile] = process.argv.slice(2);
if (oldFile === undefined || newFile === undefined) {
  console.error('usage: npx tsx bench/compare.ts OLD.jsonl NEW.jsonl');
  process.exit(2);
}
try {
  const read = (file: string) => parseFigures(readFileSync(file, 'utf8'), file);
  console.log(comparisonTable(compareFigures(read(oldFile), read(newFile))));
} catch (error) {
  console.error((error as Error).message);
  process.exit(1);
}
