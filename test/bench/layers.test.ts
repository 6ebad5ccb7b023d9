import { expect, it } from 'vitest';
import type { BenchOptions } from '../../bench/harness/case.js';
import { layersOf, tokenCounts } from '../../bench/harness/layers.js';
import { benchOptions } from '../helpers/bench-options.js';

const names = (given: Partial<BenchOptions>): string[] => layersOf(benchOptions(given)).map((l) => l.name);

it.each([
  [[], ['OLMoE', 'Mixtral/4', 'Qwen3-30B']],
  [['olmoe'], ['OLMoE']],
  [
    ['QWEN3', 'mix'],
    ['Mixtral/4', 'Qwen3-30B'],
  ], // in the order of the layers
])('--shape %j selects %j', (shapes, expected) => {
  expect(names({ shapes })).toEqual(expected);
});

it('names a shape that is none', () => {
  expect(() => names({ shapes: ['olmoe', 'gpt'] })).toThrow(/got shape 'gpt', expected one of OLMoE/);
});

it('is tiny in smoke runs, whatever else is asked for', () => {
  expect(names({ smoke: true, shapes: ['olmoe'] })).toEqual(['smoke']);
  expect(tokenCounts(benchOptions({ smoke: true, tokens: [2048] }))).toEqual([1, 8]);
});

it.each([
  [[], undefined, [1, 8, 64, 512, 2048]],
  [[], [3], [3]],
  [[5, 7], [3], [5, 7]],
])('token counts %j beside %j are %j', (tokens, otherwise, expected) => {
  expect(tokenCounts(benchOptions({ tokens }), otherwise)).toEqual(expected);
});
