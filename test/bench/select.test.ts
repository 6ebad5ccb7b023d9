import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import type { BenchCase } from '../../bench/harness/case.js';
import { selectCases } from '../../bench/harness/select.js';

const cases = [
  { name: 'batch-decode', words: ['generate'] },
  { name: 'decode', words: ['model', 'speed'] },
  { name: 'moe-layer', words: ['kernels'] },
  { name: 'prefill', words: ['model'] },
];

it.each([
  [[], ['batch-decode', 'decode', 'moe-layer', 'prefill']],
  [['batch'], ['batch-decode']],
  [['decode'], ['decode']], // a whole name before parts of others
  [['code'], ['batch-decode', 'decode']],
  [['model'], ['decode', 'prefill']],
  [['moe'], ['moe-layer']], // a part of a name
  [
    ['kernels', 'Decode'],
    ['decode', 'moe-layer'],
  ], // in the order of the cases
  [
    ['model', 'prefill'],
    ['decode', 'prefill'],
  ], // each once
])('%j selects %j', (selectors, expected) => {
  expect(selectCases(cases, selectors).map((c) => c.name)).toEqual(expected);
});

it('names the selector that selects nothing', () => {
  expect(() => selectCases(cases, ['decode', 'quick'])).toThrow(
    /got 'quick', expected one of batch-decode, decode, moe-layer/,
  );
});

const folder = fileURLToPath(new URL('../../bench/cases', import.meta.url));
it.each(readdirSync(folder))('%s is a case with a line about it', async (file) => {
  const { default: found } = (await import(`${folder}/${file}`)) as { default: BenchCase };
  expect(found.about.length).toBeGreaterThan(10);
  expect(typeof found.run).toBe('function');
});
