import { describe, expect, it } from 'vitest';
import { expertsMet, keysOfStep, leastTime, workOfPrompt, workOfStep } from '../../bench/harness/cost.js';
import type { LimitBook } from '../../bench/harness/limits.js';
import type { NativeWeight } from '../../src/core/addon.js';
import { Weight } from '../../src/core/weight.js';
import type { Decoder } from '../../src/models/decoder/decoder.js';

it.each([
  [64, 8, 0, 0],
  [64, 8, 1, 8],
  [8, 2, 2, 2 + 2 * 0.75],
  [4, 4, 7, 4], // every token meets all
  [64, 8, 100_000, 64],
])('%i experts, %i a token: %i tokens meet %d', (experts, topK, tokens, met) => {
  expect(expertsMet(experts, topK, tokens)).toBeCloseTo(met, 9);
});

const weight = (rows: number, columns: number, experts = 1): Weight =>
  new Weight({} as NativeWeight, 'f32', experts, rows, columns, rows * columns * experts);

/** One layer: attention of four 4 × 4 weights and a dense or a sparse feed-forward; a head of 10 rows. */
function decoderOf(
  feedForward: readonly (readonly [string, Weight])[],
  topK: number | null,
  tied: boolean,
): Decoder {
  const embedding = weight(10, 4);
  const head = tied ? embedding : weight(10, 4);
  const attention = ['q', 'k', 'v', 'o'].map((name) => [name, weight(4, 4)] as const);
  const parameters = new Map([['embedding', embedding], ...attention, ...feedForward]);
  if (!tied) parameters.set('head', head);
  const parts = { embedding: { weight: embedding }, head: { weight: head } };
  return { parts, parameters, config: { moe: topK === null ? null : { topK } } } as unknown as Decoder;
}
const dense = [
  ['gate', weight(6, 4)],
  ['up', weight(6, 4)],
  ['down', weight(4, 6)],
] as const;

describe('the work of a step', () => {
  it.each([true, false])('reads the head but not the whole embedding (tied: %s)', (tied) => {
    const decoder = decoderOf(dense, null, tied);
    const values = 4 * 16 + 3 * 24 + 40;
    expect(workOfStep(decoder, 1)).toEqual({ bytes: values, operations: 2 * values });
    // the weights are read once for all sequences
    expect(workOfStep(decoder, 3)).toEqual({ bytes: values, operations: 6 * values });
  });

  it('counts only the experts that tokens meet', () => {
    const sparse = [
      ['layers.0.experts.gate.weight', weight(6, 4, 8)],
      ['layers.0.experts.up.weight', weight(6, 4, 8)],
    ] as const;
    const rest = 4 * 16 + 40;
    const decoder = decoderOf(sparse, 2, true);
    expect(workOfStep(decoder, 1)).toEqual({ bytes: rest + 2 * 48, operations: 2 * (rest + 2 * 48) });
    const two = workOfStep(decoder, 2);
    expect(two.bytes).toBeCloseTo(rest + 3.5 * 48, 9);
    expect(two.operations).toBe(4 * (rest + 2 * 48));
    expect(workOfStep(decoder, 2, 0.25)).toEqual({ bytes: rest + 2 * 48, operations: two.operations });
  });

  it.each([
    [0, null, 2 * 10 + 2 * 10],
    [4, null, 2 * 4 + 2 * 4],
    [4, [1], 2 * 10 + 2 * 4],
    [64, null, 2 * 10 + 2 * 10],
  ])(
    'reads the keys and values that a window of %i over layers %j leaves',
    (window, windowLayers, places) => {
      const config = { nLayers: 2, nKvHeads: 3, headDim: 5, latent: null, window, windowLayers };
      const decoder = { config } as unknown as Decoder;
      expect(keysOfStep(decoder, 'f16', 10)).toBe((places / 2) * 3 * 2 * 5 * 2);
      expect(keysOfStep(decoder, 'f32', 10)).toBe((places / 2) * 3 * 2 * 5 * 4);
    },
  );

  it('lets only the last token of a prompt meet the head', () => {
    const decoder = decoderOf(dense, null, true);
    const layers = 4 * 16 + 3 * 24;
    expect(workOfPrompt(decoder, 5).operations).toBe(2 * (5 * layers + 40));
    expect(workOfPrompt(decoder, 1)).toEqual(workOfStep(decoder, 1));
  });
});

const book = (operations: number | null): LimitBook =>
  ({ bandwidth: async () => 100, operations: async () => operations }) as unknown as LimitBook;

it.each([
  ['reading', { bytes: 50, operations: 10 }, 100, 500],
  ['computing', { bytes: 50, operations: 200 }, 100, 2000],
  ['reading, where computing has no instruction', { bytes: 50, operations: 200 }, null, 500],
])('is bound by %s', async (_, work, rate, ms) => {
  expect(await leastTime(book(rate), work, 'int8')).toBe(ms);
});
