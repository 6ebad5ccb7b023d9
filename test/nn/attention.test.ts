import { describe, expect, it } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { tensor } from '../../src/core/tensor.js';
import { Attention, type AttentionConfig } from '../../src/nn/attention.js';
import { Linear } from '../../src/nn/linear.js';
import { RmsNorm } from '../../src/nn/norm.js';
import { RotaryEmbedding } from '../../src/nn/rope.js';
import { generator } from '../helpers/random.js';
import { runGraph } from '../helpers/run-graph.js';
import { normal } from '../helpers/tiny-model.js';

const [H, C, D] = [3, 4, 12];
const next = generator(5);
const matrix = (rows: number, columns: number) => normal(next, rows * columns, 1);
const [x, weight, gain] = [matrix(2, D), matrix(H * C, D), matrix(1, H * C)];
const identity = Float32Array.from({ length: D * D }, (_, i) => (i % (D + 1) === 0 ? 1 : 0));

/** The query (or value) that `attend` gets, at position 0, where rotation changes nothing. */
async function query(
  config: Partial<AttentionConfig>,
  norm: RmsNorm | null,
  part: 'q' | 'v' = 'q',
): Promise<number[]> {
  const w = new Linear(tensor(weight, [H * C, D]));
  const attention = new Attention(
    { nHeads: H, nKvHeads: H, headDim: C, ropeInterleaved: false, ...config },
    w,
    w,
    w,
    new Linear(tensor(identity, [D, D])),
    norm,
    norm,
  );
  const rope = { theta: 10_000, dim: C, interleaved: false, scaling: { type: 'default' } } as const;
  const table = new RotaryEmbedding(rope, 16).table(tensor(Int32Array.of(0, 0)));
  const out = attention.forward(tensor(x, [2, D]), table, (q, _, v) => (part === 'q' ? q : v), 'f32');
  const [result] = await runGraph(defaultDevice(), [out]);
  return Array.from(result?.value.data ?? [], Number);
}

/** The definition: the rows of x Wᵀ, each group of `width` divided by its root mean square, then the bound. */
function defined(width: number | null, clip: number): number[] {
  return Array.from({ length: 2 }, (_, n) => {
    const row = Array.from({ length: H * C }, (_, i) =>
      Array.from({ length: D }, (_, d) => (x[n * D + d] as number) * (weight[i * D + d] as number)).reduce(
        (a, b) => a + b,
      ),
    );
    const normed = row.map((value, i) => {
      if (width === null) return value;
      const from = i - (i % width);
      const square = row.slice(from, from + width).reduce((sum, v) => sum + v * v, 0);
      return (value / Math.sqrt(square / width + 1e-6)) * (gain[width === C ? i % C : i] as number);
    });
    return normed.map((value) => Math.min(Math.max(value, -clip), clip));
  }).flat();
}

const headNorm = new RmsNorm(tensor(gain.slice(0, C)));
const wideNorm = new RmsNorm(tensor(gain));

describe('queries and keys', () => {
  it.each<[string, Partial<AttentionConfig>, RmsNorm | null, number | null, number]>([
    ['are left alone', {}, null, null, Infinity],
    ['are normalised head by head', {}, headNorm, C, Infinity],
    ['are normalised over all heads', { normAcross: 'heads' }, wideNorm, H * C, Infinity],
    ['are bounded', { clip: 0.7 }, null, null, 0.7],
    ['are bounded after the norm over all heads', { normAcross: 'heads', clip: 0.4 }, wideNorm, H * C, 0.4],
  ])('%s', async (_, config, norm, width, clip) => {
    const want = defined(width, clip);
    const got = await query(config, norm);
    for (const [i, value] of want.entries()) expect(got[i]).toBeCloseTo(value, 5);
  });

  it('values have the bound and no norm', async () => {
    const got = await query({ normAcross: 'heads', clip: 0.7 }, wideNorm, 'v');
    for (const [i, value] of defined(null, 0.7).entries()) expect(got[i]).toBeCloseTo(value, 5);
  });
});
