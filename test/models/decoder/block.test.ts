/** Where each kind of block has its norms: with parts that multiply by primes, the result tells which were met, and in which order. */
import { expect, it } from 'vitest';
import { defaultDevice } from '../../../src/core/device.js';
import { mul } from '../../../src/core/ops/elementwise.js';
import { evaluate } from '../../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../../src/core/tensor.js';
import { Block, type BlockParts, type PassContext } from '../../../src/models/decoder/block.js';
import { BLOCK_KINDS, type BlockKind } from '../../../src/models/decoder/config.js';

const times = (factor: number) => ({ forward: (x: Tensor): Tensor => mul(x, factor) });
const [A, F, N1, N2, P1, P2] = [2, 3, 5, 7, 11, 13];
const X = 1;
const SCALE = 0.5;

/** By the formulas of BLOCK_KINDS, residuals scaled by a half. */
const WANT: Readonly<Record<BlockKind, () => number>> = {
  pre: () => {
    const y = X + SCALE * A * N1 * X;
    return y + SCALE * F * N2 * y;
  },
  post: () => {
    const y = N1 * (X + SCALE * A * X);
    return N2 * (y + SCALE * F * y);
  },
  sandwich: () => {
    const y = X + SCALE * P1 * A * N1 * X;
    return y + SCALE * P2 * F * N2 * y;
  },
  parallel: () => X + SCALE * (A * N1 * X + F * N1 * X),
  'parallel-two-norms': () => X + SCALE * (A * N1 * X + F * N2 * X),
};

it.each(BLOCK_KINDS)('%s', async (kind) => {
  const sandwich = kind === 'sandwich';
  const parts = {
    attention: times(A),
    feedForward: times(F),
    norms: {
      attention: times(N1),
      ...(kind === 'parallel' ? {} : { feedForward: times(N2) }),
      ...(sandwich ? { attentionPost: times(P1), feedForwardPost: times(P2) } : {}),
    },
  } as unknown as BlockParts;
  const context = { table: null, compute: 'f32', routing: [] } as unknown as PassContext;
  const y = new Block(kind, SCALE, parts).forward(tensor([[X]]), () => tensor([[0]]), context);
  await evaluate([y], defaultDevice());
  expect(await y.item()).toBe(WANT[kind]());
});
