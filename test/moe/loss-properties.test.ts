import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { defaultDevice } from '../../src/core/device.js';
import { evaluate } from '../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { adaptiveMixtureLoss } from '../../src/moe/gating/index.js';
import { smoothLoad } from '../../src/moe/gating/noisy-top-k.js';
import * as real from '../../src/moe/losses.js';
import { largest, type Matrix, softmax, type Vector } from '../../src/moe/reference.js';
import { noisyLogits } from '../../src/moe/reference-gating.js';
import * as defined from '../../src/moe/reference-losses.js';
import { generator } from '../helpers/random.js';
import { expectClose } from '../parity/compare.js';

const on = defaultDevice();
const TOLERANCE = 1e-4;
const BATCH = 50;

const sizes = fc
  .record({
    sequences: fc.integer({ min: 1, max: 3 }),
    time: fc.integer({ min: 1, max: 6 }),
    devices: fc.integer({ min: 1, max: 3 }),
    each: fc.integer({ min: 1, max: 5 }),
    wantedK: fc.integer({ min: 1, max: 4 }),
    dropped: fc.boolean(),
    seed: fc.nat(),
  })
  .map((s) => ({
    ...s,
    n: s.sequences * s.time,
    e: s.devices * s.each,
    k: Math.min(s.wantedK, s.devices * s.each),
  }));
type Sizes = typeof sizes extends fc.Arbitrary<infer S> ? S : never;

const ofRows = (m: Matrix): Tensor =>
  tensor(Float32Array.from(m.flat()), [m.length, (m[0] as Vector).length]);
const ofIds = (m: Matrix): Tensor => tensor(Int32Array.from(m.flat()), [m.length, (m[0] as Vector).length]);

/** Each loss as it is built, and its definition. */
function pairs(s: Sizes): [string, Tensor, readonly unknown[]][] {
  const { n, e, k, devices, sequences } = s;
  const next = generator(s.seed);
  const matrix = (rows: number, columns: number, size = 1): Matrix =>
    Array.from({ length: rows }, () =>
      Array.from({ length: columns }, () => Math.fround((2 * next() - 1) * size)),
    );
  const logits = matrix(n, e, 2);
  const p = logits.map((row) => softmax(row).map(Math.fround));
  const ids = logits.map((row) => largest(row, k).map((id) => (s.dropped && next() < 0.3 ? -1 : id)));
  const weights = matrix(n, k);
  const choices = { probabilities: ofRows(p), expertIds: ofIds(ids) };
  const gates = defined.gateMatrix(ids, weights, e);
  const load = Array.from({ length: e }, () => Math.floor(next() * 9));
  const bias = (matrix(1, e) as [Vector])[0];
  const std = matrix(n, e).map((row) => row.map((x) => Math.fround(0.2 + Math.abs(x))));
  const noisy = noisyLogits(logits, matrix(n, e), std).map((row) => row.map(Math.fround));
  const outputs = Array.from({ length: n }, () => matrix(e, 3));
  const target = matrix(n, 3);
  const o = tensor(Float32Array.from(outputs.flat(2)), [n, e, 3]);
  const mixture = adaptiveMixtureLoss(ofRows(logits), o, ofRows(target));
  const wanted = defined.mixtureLosses(logits, outputs, target);
  const limit = { devices, limit: 2 };
  const nextLoad = defined.biasAfter(bias, load, 0.01);
  return [
    ['switch', real.switchLoss(choices), [defined.switchLoss(p, ids)]],
    ['expert', real.expertBalanceLoss(choices), [defined.expertBalance(p, ids)]],
    ['device', real.deviceBalanceLoss(choices, devices), [defined.deviceBalance(p, ids, devices)]],
    [
      'communication',
      real.communicationBalanceLoss(choices, devices, 2),
      [defined.communicationBalance(p, ids, limit)],
    ],
    ['sequence', real.sequenceBalanceLoss(choices, sequences), [defined.sequenceBalance(p, ids, sequences)]],
    ['gates', real.gateMatrix(ofIds(ids), ofRows(weights), e), gates],
    ['importance', real.importanceLoss(ofRows(p)), [defined.cvSquared(defined.importance(p))]],
    [
      'load',
      smoothLoad(ofRows(logits), ofRows(noisy), ofRows(std), k),
      defined.smoothLoad(logits, noisy, std, k),
    ],
    ['router z', real.routerZLoss(ofRows(logits)), [defined.routerZ(logits).reduce((a, b) => a + b, 0) / n]],
    [
      'bias',
      real.updateSelectionBias(tensor(Float32Array.from(bias)), tensor(Int32Array.from(load)), {
        rate: 0.01,
      }),
      nextLoad,
    ],
    ['mixture', mixture.loss, [wanted.loss]],
    ['per case', mixture.perCase, wanted.perCase],
    ['posterior', mixture.posterior, wanted.posterior],
    ['blend', mixture.blend, [wanted.blend]],
    ['competitive', mixture.competitive, [wanted.competitive]],
  ];
}

describe('losses', () => {
  it('are what the definition says', () =>
    fc.assert(
      fc.asyncProperty(fc.array(sizes, { minLength: BATCH, maxLength: BATCH }), async (batch) => {
        const all = batch.map((s) => ({ s, of: pairs(s) }));
        await evaluate(
          all.flatMap(({ of }) => of.map(([, t]) => t)),
          on,
        );
        for (const { s, of } of all)
          for (const [name, got, want] of of) {
            const numbers = want.flat() as number[];
            // a coefficient of variation of nearly even values is all rounding
            if (name === 'importance' && (numbers[0] as number) < 1e-6) continue;
            expectClose(`${name} ${JSON.stringify(s)}`, Array.from(on.read(got), Number), numbers, {
              tolerance: TOLERANCE,
            });
          }
      }),
      { seed: 1, numRuns: 12, endOnFailure: true },
    ));

  it('of no tokens are 0', async () => {
    const choices = {
      probabilities: tensor(new Float32Array(0), [0, 4]),
      expertIds: tensor(new Int32Array(0), [0, 2]),
    };
    const all = [
      real.switchLoss(choices),
      real.expertBalanceLoss(choices),
      real.deviceBalanceLoss(choices, 2),
      real.communicationBalanceLoss(choices, 2, 1),
      real.sequenceBalanceLoss(choices, 3),
      real.importanceLoss(choices.probabilities),
      real.routerZLoss(choices.probabilities),
    ];
    await evaluate(all, on);
    for (const t of all) expect(Array.from(on.read(t))).toEqual([0]);
  });
});
