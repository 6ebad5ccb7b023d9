import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SwitchyardError } from '../../src/core/errors.js';
import { evaluate } from '../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { hash } from '../../src/moe/gating/index.js';
import { MoELayer } from '../../src/moe/layer.js';
import type { SparsePlan } from '../../src/moe/plan.js';
import type { Vector } from '../../src/moe/reference.js';
import * as losses from '../../src/moe/reference-losses.js';
import { asDefined, expectAsDefined, floats, on, tryAll, values, worked } from './defined.js';
import { type LayerCase, layerCases, randomLayer, routerless } from './random-layer.js';

describe('logits that are no numbers', () => {
  const routed = layerCases.filter((c) => !routerless(c.policy) && c.time > 0);

  it.each(['NaN in a token', 'NaN', '+∞'])('%s is refused by every policy', async (kind) => {
    const met = new Set<string>();
    // a sigmoid of +∞ is 1
    const refusing = kind === '+∞' ? routed.filter((c) => c.policy !== 'sigmoid-top-k') : routed;
    for (const c of fc.sample(refusing, { seed: 1, numRuns: 300 })) {
      const bias = { 'NaN in a token': 0, NaN: Number.NaN, '+∞': Number.POSITIVE_INFINITY }[kind] as number;
      const routerBias = (outputs: number): Vector =>
        Array.from({ length: outputs }, (_, e) => (e === c.seed % outputs ? bias : 0));
      const { layer, tokens, options } = await randomLayer(c, on, routerBias);
      const x = tokens.map((row) => [...row]);
      if (kind === 'NaN in a token') (x[c.seed % x.length] as number[])[0] = Number.NaN;
      const { output } = layer.forward(floats(x, [c.sequences, c.time, c.dModel]), options);
      const error = await evaluate([output], on).then(
        () => null,
        (e: unknown) => e,
      );
      expect(error, JSON.stringify(c)).toBeInstanceOf(SwitchyardError);
      expect((error as Error).message).toMatch(/^\[\w+\] got .*, expected/);
      met.add(c.policy);
    }
    expect(met.size).toBe(kind === '+∞' ? 14 : 15);
  });
});

it('hash without a table: one expert for each id, whatever stands beside it', async () => {
  const ids = [0, 1, 2, 49_999, 151_935, 2 ** 31 - 1, ...Array.from({ length: 2000 }, (_, i) => i)];
  const chosen = (tokens: readonly number[], seed: number, nExperts: number): Tensor => {
    const layer = new MoELayer({ dModel: 1, dFf: 1, nExperts, gating: hash({ seed }) });
    const tokenIds = tensor(Int32Array.from(tokens));
    return (
      layer.forward(tensor(new Float32Array(tokens.length), [tokens.length, 1]), { tokenIds })
        .plan as SparsePlan
    ).expertIds;
  };
  for (const nExperts of [1, 2, 7, 64, 512]) {
    const [all, backwards, other] = [
      chosen(ids, 0, nExperts),
      chosen([...ids].reverse(), 0, nExperts),
      chosen(ids, 5, nExperts),
    ];
    await evaluate([all, backwards, other], on);
    const got = values(all);
    expect(got.every((e) => Number.isInteger(e) && e >= 0 && e < nExperts)).toBe(true);
    expect(values(backwards).reverse()).toEqual(got);
    // no expert has three times its share of consecutive ids, and a seed changes the table
    const load = losses.choiceCounts([got], nExperts);
    expect(Math.max(...load)).toBeLessThan(3 * Math.max(4, ids.length / nExperts));
    if (nExperts > 1) expect(values(other)).not.toEqual(got);
  }
});

describe('extremes', () => {
  const common = { dModel: 4, dFf: 3, activation: 'silu', gated: true, bias: false, shared: 'none' } as const;
  const plain = {
    ...common,
    selectionBias: false,
    renormalize: true,
    scale: 1,
    groups: 1,
    topGroups: 1,
  } as const;
  const policies = [
    'softmax-top-k',
    'top-k-softmax',
    'noisy-top-k',
    'sigmoid-top-k',
    'group-limited-greedy',
  ] as const;
  const sizes = [
    { what: 'one token', sequences: 1, time: 1, nExperts: 8, k: 2 },
    { what: 'one token, all experts', sequences: 1, time: 1, nExperts: 3, k: 3 },
    { what: 'no tokens', sequences: 2, time: 0, nExperts: 4, k: 2 },
    { what: 'no sequences', sequences: 0, time: 3, nExperts: 4, k: 2 },
    { what: 'fewer tokens than experts', sequences: 1, time: 3, nExperts: 100, k: 1 },
    { what: '512 experts', sequences: 1, time: 5, nExperts: 512, k: 8 },
    { what: '512 experts, many each', sequences: 2, time: 2, nExperts: 512, k: 200 },
    { what: '33 experts', sequences: 3, time: 7, nExperts: 33, k: 5 },
  ];
  it.each(sizes)('$what', async ({ what: _, ...size }) => {
    for (const packed of [false, true])
      for (const capacity of [null, { factor: 1 }, { slots: 1, overflow: 'next-best' as const }]) {
        const batch = policies
          .filter((policy) => capacity?.overflow !== 'next-best' || policy !== 'group-limited-greedy')
          .map(
            (policy, seed): LayerCase => ({
              ...plain,
              ...size,
              policy,
              packed,
              capacity,
              favourite: false,
              training: false,
              seed,
            }),
          );
        await tryAll(batch, (c) => asDefined(c));
      }
  });

  it('all tokens to one expert', async () => {
    const favoured = (outputs: number): Vector =>
      Array.from({ length: outputs }, (_, e) => (e === 2 ? 50 : 0));
    for (const capacity of [null, { slots: 3 }]) {
      const batch = [...policies, 'switch-top-1' as const].map(
        (policy, seed): LayerCase => ({
          ...plain,
          ...{ sequences: 1, time: 9, nExperts: 5, k: 1, policy, packed: seed % 2 === 0, capacity },
          ...{ favourite: false, training: false, seed },
        }),
      );
      await tryAll(batch, async (c) => {
        const { tensors, ...ran } = await worked(c, favoured);
        const { wishedIds, expertIds } = ran.out.plan as SparsePlan;
        const check = (): void => {
          expect(values(wishedIds)).toEqual(new Array(9).fill(2));
          expect(values(expertIds).filter((e) => e === 2)).toHaveLength(capacity ? 3 : 9);
          expectAsDefined(ran);
        };
        return { tensors, check };
      });
    }
  });
});
