/** Filters against their definitions in plain loops: rows of any shape, with equal scores and with banned tokens. */
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Sampler, samplers } from '../../../src/generate/samplers/index.js';
import { runChains } from '../../helpers/chains.js';
import { type ReferenceRow, reference } from '../../helpers/reference-samplers.js';

/** The filter, and its definition; both take a number from 0 to 1. */
const FILTERS: Readonly<
  Record<string, [(x: number) => Sampler, (row: ReferenceRow, x: number) => number[]]>
> = {
  topP: [samplers.topP, reference.topP],
  minP: [samplers.minP, reference.minP],
  tailFree: [samplers.tailFree, reference.tailFree],
  topK: [
    (x) => samplers.topK(1 + Math.floor(200 * x)),
    (row, x) => reference.topK(row, 1 + Math.floor(200 * x)),
  ],
};
/** Rounding decides where the number is so near to a sum of probabilities. */
const NEAR = 2e-6;

// In steps of 1/1024: scores nearer than f32 tells their probabilities apart count as equal.
const score = fc.oneof(
  fc.double({ min: -4, max: 4, noNaN: true }),
  fc.integer({ min: -6, max: 6 }).map((x) => x / 2),
  fc.double({ min: -80, max: 20, noNaN: true }),
);
const row = fc.record({
  logits: fc.array(
    score.map((x) => Math.round(x * 1024) / 1024),
    { minLength: 1, maxLength: 400 },
  ),
  banned: fc.uniqueArray(fc.nat(399), { maxLength: 60 }),
  x: fc.double({ min: 0.01, max: 0.99, noNaN: true }),
});

it.each(Object.entries(FILTERS))('%s leaves what its definition does', async (_name, [make, definition]) => {
  await fc.assert(
    fc.asyncProperty(row, async ({ logits, banned, x }) => {
      const bans = Object.fromEntries(banned.filter((id) => id < logits.length).map((id) => [id, -Infinity]));
      const scores = logits.map((s, id) => bans[id] ?? s);
      if (scores.every((s) => s === -Infinity)) return;
      const sampler = samplers.chain([samplers.logitBias(bans), make(x)]);
      const left = Array.from((await runChains([{ sampler, logits }])).scores);
      const near = [x, x - NEAR, x + NEAR].map((y) =>
        definition({ scores, history: [], seed: 1, step: 0 }, y),
      );
      expect(near).toContainEqual(left);
    }),
    { seed: 7, numRuns: 300 },
  );
});
