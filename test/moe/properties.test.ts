import { describe, expect, it } from 'vitest';
import { reshape } from '../../src/core/ops/shape.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { Weight } from '../../src/core/weight.js';
import { referenceLayer, type Vector } from '../../src/moe/reference.js';
import { FeedForward } from '../../src/nn/feed-forward.js';
import { Linear, type Matrix as LinearMatrix } from '../../src/nn/linear.js';
import { generator } from '../helpers/random.js';
import { deviceOf, runGraph } from '../helpers/run-graph.js';
import { expectClose, expectSame } from '../parity/compare.js';
import {
  asDefined,
  type Compute,
  closeCall,
  floats,
  forCases,
  on,
  rowsOf,
  TOLERANCE,
  type Trial,
  tally,
  values,
  worked,
} from './defined.js';
import { type LayerCase, layerCases, randomLayer, routerless } from './random-layer.js';

describe('random layers', () => {
  it('are what the definition says', async () => {
    await forCases(5000, layerCases, (c) => asDefined(c));
    expect(tally.closeCalls, 'cases that were not compared').toBeLessThan(250);
  });

  it('one expert alone is the dense feed-forward, bit for bit', () => {
    const dense = ['expert-choice', 'dense', 'adaptive-mixture', 'hash', 'random', 'softmax-top-k'];
    const policies = [...dense, 'top-k-softmax', 'noisy-top-k', 'switch-top-1', 'sigmoid-top-k'];
    const alone = layerCases
      .filter((c) => policies.includes(c.policy))
      .map((c) => ({ ...c, nExperts: 1, k: 1, groups: 1, topGroups: 1, renormalize: true, scale: 1 }))
      .map((c): LayerCase => ({ ...c, capacity: null, shared: 'none', selectionBias: false }));
    return forCases(1000, alone, async (c) => {
      const random = await randomLayer(c, on);
      const { gate, up, down, gateBias, upBias, downBias } = random.layer.parameters.experts;
      const part = (m: LinearMatrix, b: Tensor | null | undefined): Linear =>
        new Linear(
          m instanceof Weight ? m : reshape(m, m.shape.slice(1)),
          b ? reshape(b, [b.shape[1] as number]) : null,
        );
      const ffn = new FeedForward(
        gate && part(gate, gateBias),
        part(up as LinearMatrix, upBias),
        part(down, downBias),
        c.activation,
      );
      const got = random.layer.forward(random.x, random.options).output;
      const want = ffn.forward(random.x);
      return { tensors: [got, want], check: () => expectSame('dense output', values(got), values(want)) };
    });
  });

  it('tokens in another order give outputs in that order', () => {
    // these mix tokens: sums run in another order
    const mixing = ['expert-choice', 'soft-moe', 'soft-merging'];
    const orderless = layerCases
      .filter((c) => c.policy !== 'random') // draws by position
      .map((c): LayerCase => {
        // one expert and fixed experts leave all tokens equally probable
        const ordered = c.nExperts > 1 && c.policy !== 'hash';
        const limited = c.capacity && ordered && !mixing.includes(c.policy);
        const capacity = limited
          ? ({ ...c.capacity, priority: 'probability', group: 'batch' } as const)
          : null;
        return { ...c, sequences: 1, training: false, capacity };
      });
    return forCases(1500, orderless, async (c) => {
      const random = await randomLayer(c, on);
      const { layer, x, tokens, tokenIds } = random;
      const next = generator(c.seed);
      const places = tokens.map(() => next());
      const order = tokens.map((_, t) => t).sort((a, b) => (places[a] as number) - (places[b] as number));
      const one = layer.forward(x, random.options).output;
      const other = layer.forward(
        floats(
          order.map((t) => tokens[t] as Vector),
          x.shape,
        ),
        c.policy === 'hash' ? { tokenIds: tensor(Int32Array.from(order, (t) => tokenIds[t] as number)) } : {},
      ).output;
      const check = (): void => {
        const rows = rowsOf(one);
        const want = order.flatMap((t) => rows[t] as number[]);
        if ((c.capacity || c.policy === 'expert-choice') && closeCall(random)) tally.closeCalls++;
        else if (mixing.includes(c.policy))
          expectClose('shuffled', values(other), want, { tolerance: TOLERANCE });
        else expectSame('shuffled', values(other), want);
      };
      return { tensors: [one, other], check };
    });
  });

  it('a sequence gives the same bits alone and in a batch, on 1, 2 and 4 threads', () => {
    const bySequence = layerCases
      .filter((c) => c.policy !== 'random') // draws by position
      .map(
        (c): LayerCase => ({
          ...c,
          training: false,
          renormalize: c.policy === 'expert-choice' ? false : c.renormalize, // its group: the sequence
          capacity: c.capacity && { ...c.capacity, group: 'sequence' },
        }),
      );
    const runs = [1, 2, 4].map((threads) => ({ threads, data: new WeakMap<Tensor, ArrayLike<number>>() }));
    const onThreads: Compute = async (tensors) => {
      for (const { threads, data } of runs)
        for (const [i, { value }] of (await runGraph(deviceOf(on.isa, threads), tensors)).entries())
          data.set(tensors[i] as Tensor, value.data);
    };
    const build = async (c: LayerCase): Promise<Trial> => {
      const { layer, x, tokens, tokenIds, options } = await randomLayer(c, on);
      const batch = layer.forward(x, options).output;
      const alone = Array.from({ length: c.sequences }, (_, b) => {
        const [from, to] = [b * c.time, (b + 1) * c.time];
        const mine = floats(tokens.slice(from, to), [c.time, c.dModel]);
        const ids = { tokenIds: tensor(Int32Array.from(tokenIds.slice(from, to))) };
        return layer.forward(mine, c.policy === 'hash' ? ids : {}).output;
      });
      const check = (): void => {
        const want = runs[0]?.data.get(batch) as ArrayLike<number>;
        for (const { threads, data } of runs) {
          expectSame(`in a batch on ${threads}`, data.get(batch) as ArrayLike<number>, want);
          const parts = alone.flatMap((t) => Array.from(data.get(t) as ArrayLike<number>));
          expectSame(`alone on ${threads}`, parts, want);
        }
      };
      return { tensors: [batch, ...alone], check };
    };
    return forCases(1500, bySequence, build, onThreads);
  });

  it('an expert whose logit is -∞ has the weight 0', () => {
    const masked = layerCases
      .filter((c) => !routerless(c.policy) && !(c.policy === 'base' && c.training))
      .filter((c) => c.nExperts > 1 && c.time > 0)
      .map((c): LayerCase => ({ ...c, capacity: null, selectionBias: false }));
    const off = (c: LayerCase, e: number): boolean => (e + c.seed) % c.nExperts < Math.ceil(c.nExperts / 3);
    return forCases(700, masked, async (c) => {
      const bias = (outputs: number): Vector =>
        Array.from({ length: outputs }, (_, e) => (off(c, e) ? Number.NEGATIVE_INFINITY : 0));
      const { random, out, tensors } = await worked(c, bias);
      const check = (): void => {
        const { plan } = out;
        expect(values(out.output).every(Number.isFinite)).toBe(true);
        if (plan.kind === 'sparse') {
          const weights = rowsOf(plan.combineWeights);
          for (const [t, row] of rowsOf(plan.expertIds).entries())
            for (const [place, e] of row.entries())
              if (e !== -1 && off(c, e)) expect(weights[t]?.[place]).toBe(0);
        }
        if (plan.kind === 'merged')
          for (const row of rowsOf(plan.shares))
            expect(row.every((p, e) => !off(c, e) || p === 0)).toBe(true);
        if (closeCall(random)) tally.closeCalls++;
        else {
          const want = referenceLayer(random.tokens, random.definition).output.flat();
          expectClose('masked', values(out.output), want, { tolerance: TOLERANCE });
        }
      };
      return { tensors, check };
    });
  });
});
