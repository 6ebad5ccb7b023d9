// Long runs, each in a process of its own, so that a crash or a leak is seen as what it is.
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { runOnBuilt } from '../helpers/built.js';
import { temporaryFolder } from '../helpers/checkpoint.js';
import { writeTinyFolder } from '../helpers/tiny-model.js';

const ROUNDS = 1000;
const ENDED = 100;
/** What allocator and garbage collector may add; over at least 200 rounds, a leak of 40 KB a round (half a model) is more. */
const SLACK = 8 * 2 ** 20;

const path = join(temporaryFolder(), 'tiny');
beforeAll(() =>
  writeTinyFolder(path, { nExperts: 4, dModel: 32, dFf: 32, nHeads: 2, nKvHeads: 1, eosId: null }),
);

it(`${ROUNDS} rounds of load, generate and dispose do not grow`, { timeout: 300_000 }, async () => {
  const { stdout } = await runOnBuilt('rounds.mjs', [path, String(ROUNDS)]);
  const [early, late] = JSON.parse(stdout) as [number, number];
  expect(late - early).toBeLessThan(SLACK);
});

it(`${ENDED} workers are ended in the middle of a token`, { timeout: 300_000 }, async () => {
  const { stdout } = await runOnBuilt('ended-workers.mjs', [path, String(ENDED)]);
  expect(stdout).toBe(`${ENDED}\n`);
});

it('a process is ended in the middle of a token', async () => {
  for (let i = 0; i < 5; i++) await runOnBuilt('ended-process.mjs', [path]);
});
