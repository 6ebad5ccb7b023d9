import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  erf,
  limited,
  linear,
  type Matrix,
  type ReferenceActivation,
  type ReferenceExpert,
  type ReferenceLayerOptions,
  type ReferenceRouted,
  type ReferenceSparse,
  referenceCapacity,
  referenceExpert,
  referenceLayer,
  sigmoid,
  softmax,
  type Vector,
} from '../../src/moe/reference.js';
import * as gating from '../../src/moe/reference-gating.js';
import * as losses from '../../src/moe/reference-losses.js';
import { generator } from '../helpers/random.js';
import { expectClose } from '../parity/compare.js';
import { FFN } from '../parity/ffn.js';
import { ofKind, readJson, StoredTensors } from '../parity/folders.js';

interface Sizes extends Record<string, unknown> {
  tokens: number;
  experts: number;
  width: number;
  inner: number;
  ffn: string;
  k?: number;
}
interface LayerCase {
  name: string;
  parameters: Sizes;
  tensors: Record<string, number[]>;
}

/** Stored as float32, computed in float64. */
const TOLERANCE = 1e-6;

type Nested = number | readonly Nested[];
const flat = (n: Nested): number[] => (typeof n === 'number' ? [n] : n.flatMap(flat));

/** The inputs of a case as nested lists. */
class Inputs {
  constructor(
    readonly p: Sizes,
    private readonly stored: StoredTensors,
  ) {}

  #nested(name: string): Nested {
    const { shape, data } = this.stored.get(`in.${name}`);
    const cut = (axis: number, start: number, size: number): Nested => {
      if (axis === shape.length) return data[start] as number;
      const each = size / (shape[axis] as number);
      return Array.from({ length: shape[axis] as number }, (_, i) => cut(axis + 1, start + i * each, each));
    };
    return cut(0, 0, data.length);
  }
  vector = (name: string): Vector => this.#nested(name) as Vector;
  matrix = (name: string): Matrix => this.#nested(name) as Matrix;
  stack = (name: string): Matrix[] => this.#nested(name) as Matrix[];
  /** A parameter of the case that is a number. */
  number = (name: string): number => {
    expect(this.p[name], `parameter ${name}`).toBeTypeOf('number');
    return this.p[name] as number;
  };

  /** w1 is the gate where there is one, else up; w3 is up. */
  expert(w1: Matrix, w2: Matrix, w3: Matrix | null): ReferenceExpert {
    return w3 ? { gate: w1, up: w3, down: w2 } : { up: w1, down: w2 };
  }
  get activation(): ReferenceActivation {
    return (FFN[this.p.ffn] as [ReferenceActivation, boolean])[0];
  }
  get gated(): boolean {
    return (FFN[this.p.ffn] as [ReferenceActivation, boolean])[1];
  }
  get experts(): ReferenceExpert[] {
    const [w2, w3] = [this.stack('w2'), this.gated ? this.stack('w3') : null];
    return this.stack('w1').map((w1, e) => this.expert(w1, w2[e] as Matrix, w3?.[e] ?? null));
  }
  layer(
    options: Pick<ReferenceLayerOptions, 'route'> & Partial<ReferenceLayerOptions>,
  ): ReferenceRouted & { output: Matrix } {
    return referenceLayer(this.matrix('x'), {
      experts: this.experts,
      activation: this.activation,
      ...('router' in options ? {} : { router: this.matrix('wg') }),
      ...options,
    });
  }
}

/** The references list the chosen experts of a token by number. */
function byNumber({ ids, weights }: ReferenceSparse): { experts: Matrix; weights: Matrix } {
  const orders = ids.map((row) =>
    row.map((_, i) => i).sort((a, b) => (row[a] as number) - (row[b] as number)),
  );
  const sorted = (m: Matrix): Matrix =>
    m.map((row, t) => (orders[t] as number[]).map((i) => row[i] as number));
  return { experts: sorted(ids), weights: sorted(weights) };
}

const sparse = ({ routing }: ReferenceRouted): ReferenceSparse => routing as ReferenceSparse;
const counts = (ids: Matrix, experts: number): number[] => losses.choiceCounts(ids, experts);

type Results = Record<string, Nested>;
type Build = (c: Inputs) => Results;

const topK =
  (route: (logits: Matrix, c: Inputs) => ReferenceSparse): Build =>
  (c) => {
    const out = c.layer({ route: (logits) => route(logits, c) });
    return { y: out.output, logits: out.logits, ...byNumber(sparse(out)) };
  };

const limitedTopK =
  (rule: { renormalize: boolean; overflow: 'drop' | 'next-best' }): Build =>
  (c) => {
    const { k = 1, experts } = c.p;
    const out = c.layer({
      route: (logits) => gating.softmaxTopK(logits, { k, renormalize: rule.renormalize }),
      limit: { slots: c.number('capacity'), overflow: rule.overflow },
    });
    const { ids, weights } = sparse(out);
    const common = {
      y: out.output,
      logits: out.logits,
      experts: ids,
      tokens_per_expert: counts(ids, experts),
    };
    return { ...common, weights };
  };

/** Rows of softmax probabilities and their k best, for the losses. */
function chosen(c: Inputs): { p: Matrix; ids: Matrix } {
  const { ids, probabilities } = gating.softmaxTopK(c.matrix('logits'), { k: c.number('k') });
  return { p: probabilities, ids };
}

/** clean, H and std of the noisy cases. */
function noisy(c: Inputs): { clean: Matrix; h: Matrix; std: Matrix } {
  const x = c.matrix('x');
  const clean = x.map((row) => linear(c.matrix('wg'), row));
  const std = gating.noiseStd(x, c.matrix('wn'));
  return { clean, h: gating.noisyLogits(clean, c.matrix('noise'), std), std };
}

const feedForward: Build = (c) => {
  const expert = c.expert(c.matrix('w1'), c.matrix('w2'), c.gated ? c.matrix('w3') : null);
  return { y: c.matrix('x').map((row) => referenceExpert(expert, c.activation, row)) };
};

const withShared =
  (gate: boolean): Build =>
  (c) => {
    const out = c.layer({
      route: (logits) => gating.softmaxTopK(logits, { k: c.number('k'), renormalize: false }),
      shared: c.expert(c.matrix('s1'), c.matrix('s2'), c.gated ? c.matrix('s3') : null),
      sharedGate: gate ? c.vector('wsg') : null,
    });
    return { y: out.output, ...byNumber(sparse(out)) };
  };

/** Group scores follow the definition: the best, or the sum of the two best, of consecutive experts. */
const groupScores = (scores: Matrix, groups: number, best: number): Matrix =>
  scores.map((row) => {
    const size = row.length / groups;
    return Array.from({ length: groups }, (_, g) => {
      const falling = row.slice(g * size, (g + 1) * size).sort((a, b) => b - a);
      return falling.slice(0, best).reduce((a, b) => a + b, 0);
    });
  });

const BUILT: Record<string, Build> = {
  topk_softmax_then_topk: topK((logits, c) =>
    gating.softmaxTopK(logits, { k: c.number('k'), renormalize: false }),
  ),
  topk_softmax_then_topk_renorm: topK((logits, c) => gating.softmaxTopK(logits, { k: c.number('k') })),
  topk_then_softmax: topK((logits, c) => gating.topKSoftmax(logits, { k: c.number('k') })),
  noisy_keep_topk: (c) => {
    const k = c.number('k');
    const { clean, h, std } = noisy(c);
    const out = c.layer({
      route: (logits) => gating.noisyTopK(logits, { k, noise: c.matrix('noise'), std }),
    });
    const { ids, weights } = sparse(out);
    const gates = losses.gateMatrix(ids, weights, c.p.experts);
    const [importance, load] = [losses.importance(gates), losses.smoothLoad(clean, h, std, k)];
    const cv = { loss_importance: losses.cvSquared(importance), loss_load: losses.cvSquared(load) };
    return { y: out.output, noisy_logits: h, gates, importance, load, ...cv };
  },
  switch_top1_capacity: (c) => {
    const factor = c.number('factor');
    const slots = referenceCapacity({ tokens: c.p.tokens, experts: c.p.experts, factor });
    expect(slots).toBe(c.number('capacity'));
    const out = c.layer({ route: gating.switchTop1, limit: { slots } });
    const { ids, weights } = sparse(out);
    const slot = ids.map(([e], t) =>
      e === -1 ? -1 : ids.slice(0, t).filter(([other]) => other === e).length,
    );
    const tokens_per_expert = counts(ids, c.p.experts);
    return { y: out.output, logits: out.logits, weights, experts: ids, slot, tokens_per_expert };
  },
  top2_overflow_next_best_scarce: limitedTopK({ renormalize: false, overflow: 'next-best' }),
  top2_overflow_next_best: limitedTopK({ renormalize: false, overflow: 'next-best' }),
  top2_overflow_next_best_renorm: limitedTopK({ renormalize: true, overflow: 'next-best' }),
  top1_overflow_next_best: limitedTopK({ renormalize: false, overflow: 'next-best' }),
  top2_first_choices_first: (c) => {
    const route = (logits: Matrix) => gating.softmaxTopK(logits, { k: c.number('k') });
    const out = c.layer({ route, limit: { slots: c.number('capacity') } });
    const wished = (out.wished as ReferenceSparse).ids;
    return { ...limitedTopK({ renormalize: true, overflow: 'drop' })(c), wished };
  },
  expert_choice: (c) => {
    const { tokens, experts } = c.p;
    const factor = c.number('factor');
    expect(referenceCapacity({ tokens, experts, factor })).toBe(c.number('capacity'));
    const out = c.layer({ route: (logits) => gating.expertChoice(logits, { factor }) });
    const { ids, probabilities } = sparse(out);
    const taken = Array.from({ length: experts }, (_, e) =>
      ids.flatMap((row, t) => (row.includes(e) ? [t] : [])),
    );
    return {
      y: out.output,
      scores: probabilities,
      taken,
      experts_per_token: ids.map((row) => row.filter((e) => e !== -1).length),
    };
  },
  soft_moe: (c) => {
    const phi = c.matrix('phi');
    const router = (phi[0] as Vector).map((_, j) => phi.map((row) => row[j] as number));
    const out = c.layer({ router, route: gating.softMoe });
    if (out.routing.kind !== 'soft') throw new Error('not soft');
    const { dispatch, combine } = out.routing;
    const x = c.matrix('x');
    const slot_inputs = router.map((_, j) =>
      (x[0] as Vector).map((_, d) =>
        x.reduce((sum, row, t) => sum + (dispatch[t]?.[j] as number) * (row[d] as number), 0),
      ),
    );
    return { y: out.output, dispatch, combine, slot_inputs };
  },
  soft_merging: (c) => {
    const sequences = c.number('batch');
    const x = c.stack('x').flat();
    const out = referenceLayer(x, {
      experts: c.experts,
      activation: c.activation,
      router: c.matrix('wg'),
      route: (logits) => gating.softMerging(logits, { sequences }),
      sequences,
    });
    if (out.routing.kind !== 'merged') throw new Error('not merged');
    return { y: out.output, share: out.routing.shares };
  },
  dense_moe: (c) => {
    const out = c.layer({ route: gating.dense });
    return { y: out.output, gates: sparse(out).probabilities };
  },
  adaptive_mixture_1991: (c) => {
    const experts = c.stack('a').map((down, e) => ({ down, downBias: c.matrix('b')[e] }));
    const x = c.matrix('x');
    const logits = x.map((row) => linear(c.matrix('wg'), row));
    const outputs = x.map((row) => experts.map((expert) => referenceExpert(expert, 'silu', row)));
    const { perCase, posterior, loss, blend, competitive } = losses.mixtureLosses(
      logits,
      outputs,
      c.matrix('target'),
    );
    // the layer's own output is the blend
    const { output } = referenceLayer(x, { experts, router: c.matrix('wg'), route: gating.adaptiveMixture });
    const target = c.matrix('target');
    const error = output.map(
      (row, t) => row.reduce((s, y, d) => s + ((target[t]?.[d] as number) - y) ** 2, 0) / 2,
    );
    expectClose('blend', [error.reduce((a, b) => a + b, 0) / x.length], [blend], { tolerance: 1e-12 });
    const all = { loss, gates: logits.map(softmax), outputs, posterior, per_case: perCase };
    return { ...all, loss_blend: blend, loss_competitive: competitive };
  },
  sinkhorn_top1: (c) => {
    const rounds = c.number('rounds');
    const out = c.layer({ route: (logits) => gating.sinkhorn(logits, { rounds }) });
    const { ids, weights, preference } = sparse(out);
    return { y: out.output, logits: out.logits, balanced: preference as Matrix, experts: ids, weights };
  },
  aux_loss_free_bias: (c) => {
    const [k, rate, steps, scale] = ['k', 'rate', 'steps', 'scale'].map((n) => c.number(n)) as [
      number,
      number,
      number,
      number,
    ];
    let bias = c.vector('bias');
    const all = { experts: [] as Matrix[], bias_after: [] as Vector[], count: [] as Vector[] };
    let first: Results = {};
    for (let step = 0; step < steps; step++) {
      const out = c.layer({ route: (logits) => gating.sigmoidTopK(logits, { k, scale, bias }) });
      const { experts, weights } = byNumber(sparse(out));
      if (step === 0) {
        const scores = out.logits.map((row) => row.map(sigmoid));
        first = { y: out.output, weights, scores };
      }
      const count = counts(experts, c.p.experts);
      bias = losses.biasAfter(bias, count, rate);
      all.experts.push(experts);
      all.bias_after.push(bias);
      all.count.push(count);
    }
    return { ...first, ...all };
  },
  group_limited_max: (c) => {
    const [groups, topGroups] = [c.number('groups'), c.number('topk_group')];
    const rule = { k: c.number('k'), groups, topGroups, scale: c.number('scale') };
    const out = c.layer({ route: (logits) => gating.groupLimitedGreedy(logits, rule) });
    // the file ranks groups by logits, which order as their softmax does
    return {
      y: out.output,
      logits: out.logits,
      ...byNumber(sparse(out)),
      group_scores: groupScores(out.logits, groups, 1),
    };
  },
  group_limited_top2sum: (c) => {
    const [groups, topGroups] = [c.number('groups'), c.number('topk_group')];
    const bias = c.vector('bias');
    const rule = { k: c.number('k'), groups, topGroups, scale: c.number('scale'), bias };
    const out = c.layer({ route: (logits) => gating.sigmoidTopK(logits, rule) });
    const ranked = out.logits.map((row) => row.map((z, e) => sigmoid(z) + (bias[e] as number)));
    return {
      y: out.output,
      logits: out.logits,
      ...byNumber(sparse(out)),
      group_scores: groupScores(ranked, groups, 2),
    };
  },
  shared_expert_plain: withShared(false),
  shared_expert_gated: withShared(true),
  hash_routing: (c) => {
    const options = { table: c.vector('table'), experts: c.p.experts };
    const out = c.layer({ router: null, route: () => gating.hash(c.vector('token_ids'), options) });
    return { y: out.output, experts: sparse(out).ids };
  },
  loss_cv_load: (c) => {
    const { clean, h, std } = noisy(c);
    const load = losses.smoothLoad(clean, h, std, c.number('k'));
    return { loss: c.number('weight') * losses.cvSquared(load), load };
  },
  loss_cv_importance: (c) => {
    const { ids, weights } = gating.topKSoftmax(c.matrix('logits'), { k: c.number('k') });
    const gates = losses.gateMatrix(ids, weights, c.p.experts);
    const importance = losses.importance(gates);
    return { loss: c.number('weight') * losses.cvSquared(importance), importance, gates };
  },
  ...Object.fromEntries(
    ['loss_switch_top1', 'loss_switch_top2'].map((name): [string, Build] => [
      name,
      (c) => {
        const { p, ids } = chosen(c);
        const f = counts(ids, c.p.experts).map((n) => n / ids.length);
        const loss = c.number('alpha') * losses.switchLoss(p, ids);
        return { loss, f, p: losses.balanceShares(p, ids).p };
      },
    ]),
  ),
  loss_router_z: (c) => {
    const per_token = losses.routerZ(c.matrix('logits'));
    const mean = per_token.reduce((a, b) => a + b, 0) / per_token.length;
    return { loss: c.number('coefficient') * mean, per_token };
  },
  loss_deepseek_expert: (c) => {
    const { p, ids } = chosen(c);
    return { loss: c.number('alpha') * losses.expertBalance(p, ids), ...losses.balanceShares(p, ids) };
  },
  loss_deepseek_device: (c) => {
    const { p, ids } = chosen(c);
    const devices = c.number('devices');
    const loss = c.number('alpha') * losses.deviceBalance(p, ids, devices);
    return { loss, ...losses.deviceShares(p, ids, devices) };
  },
  loss_deepseek_communication: (c) => {
    const { p, ids } = chosen(c);
    const options = { devices: c.number('devices'), limit: c.number('M') };
    const loss = c.number('alpha') * losses.communicationBalance(p, ids, options);
    return { loss, ...losses.communicationShares(p, ids, options) };
  },
  loss_deepseek_sequence: (c) => {
    const logits = c.stack('logits');
    const routed = gating.sigmoidTopK(logits.flat(), { k: c.number('k') });
    const { probabilities, ids } = routed;
    const loss = c.number('alpha') * losses.sequenceBalance(probabilities, ids, logits.length);
    const time = c.number('length');
    const each = logits.map((_, b) =>
      losses.balanceShares(
        probabilities.slice(b * time, (b + 1) * time),
        ids.slice(b * time, (b + 1) * time),
      ),
    );
    return { loss, f: each.map((s) => s.f), p: each.map((s) => s.p) };
  },
  ...Object.fromEntries(Object.keys(FFN).map((ffn) => [`ffn_${ffn}`, feedForward])),
};

describe.each(ofKind('layers'))('the definition against references of $name', ({ path }) => {
  const { cases, capacity } = readJson(join(path, 'cases.json')) as {
    cases: LayerCase[];
    capacity: { rows: (Parameters<typeof referenceCapacity>[0] & { capacity: number })[] };
  };

  for (const c of cases)
    it(c.name, () => {
      const stored = new StoredTensors(join(path, `${c.name}.safetensors`));
      const build = BUILT[c.name];
      if (!build) throw new Error(`the case ${c.name} is not defined here`);
      const results = build(new Inputs(c.parameters, stored));
      const wanted = Object.keys(c.tensors).filter((name) => name.startsWith('out.'));
      expect(Object.keys(results).sort()).toEqual(wanted.map((name) => name.slice('out.'.length)).sort());
      for (const [name, got] of Object.entries(results)) {
        const want = stored.get(`out.${name}`).data;
        if (want instanceof Float32Array)
          expectClose(`${c.name} ${name} definition`, flat(got), want, { tolerance: TOLERANCE });
        else expect(flat(got), name).toEqual([...want]);
      }
    });

  it('places of an expert', () => {
    expect(capacity.rows.length).toBeGreaterThan(0);
    for (const { capacity: want, ...row } of capacity.rows)
      expect(referenceCapacity(row), JSON.stringify(row)).toBe(want);
  });
});

describe('what no stored reference covers, by hand', () => {
  const logits = (probabilities: Matrix): Matrix => probabilities.map((row) => row.map(Math.log));
  const two = logits([
    [0.6, 0.4],
    [0.9, 0.1],
    [0.2, 0.8],
    [0.7, 0.3],
  ]);

  it('st-moe-top-2: the second expert stays where uniform · threshold < g₂', () => {
    const uniform = [0.99, 0.6, 0.99, 0.99];
    expect(gating.stMoeTop2(two, { uniform, threshold: 0.2 }).ids).toEqual([
      [0, 1],
      [0, -1], // 0.12 ≥ 0.1
      [1, 0], // 0.198 < 0.2
      [0, 1],
    ]);
    expect(gating.stMoeTop2(two, { uniform, threshold: 0.5 }).ids.map((row) => row[1])).toEqual([
      -1, -1, -1, -1,
    ]);
  });

  it('switch-top-1 with one place: in order, by probability, in two groups', () => {
    const wished = gating.switchTop1(two);
    expect(wished.ids.flat()).toEqual([0, 0, 1, 0]);
    expect(limited(wished, { slots: 1 }).ids.flat()).toEqual([0, -1, 1, -1]);
    expect(limited(wished, { slots: 1, priority: 'probability' }).ids.flat()).toEqual([-1, 0, 1, -1]);
    expect(limited(wished, { slots: 1, group: 2 }).ids.flat()).toEqual([0, -1, 1, 0]);
    expect(limited(wished, { slots: 0 }).ids.flat()).toEqual([-1, -1, -1, -1]);
  });

  it('next-best by probability: token 1 first, token 0 finds no place', () => {
    const limit = { slots: 1, group: 4, overflow: 'next-best', priority: 'probability' } as const;
    const { ids, weights } = limited(gating.softmaxTopK(two, { k: 1 }), limit);
    expect(ids.flat()).toEqual([-1, 0, 1, -1]);
    expect(weights.flat()).toEqual([0, 1, 1, 0]);
  });

  it('ties go to the lower index', () => {
    const even = [[1, 1, 1, 1]];
    expect(gating.softmaxTopK(even, { k: 2 }).ids).toEqual([[0, 1]]);
    expect(gating.sigmoidTopK(even, { k: 2, groups: 2, topGroups: 1 }).ids).toEqual([[0, 1]]);
    expect(gating.expertChoice([[1], [1], [1]], { factor: 0.5 }).ids).toEqual([[0], [0], [-1]]);
  });

  it('groups limit the choice though a better expert lies outside', () => {
    const scores = logits([[0.4, 0.01, 0.29, 0.3]]);
    expect(gating.groupLimitedGreedy(scores, { k: 2, groups: 2, topGroups: 1 }).ids).toEqual([[0, 1]]);
    expect(gating.sigmoidTopK(scores, { k: 2, groups: 2, topGroups: 1 }).ids).toEqual([[3, 2]]);
  });

  it('random: the largest of the numbers drawn', () => {
    const { ids, weights } = gating.random([[0.1, 0.9, 0.5]], { k: 2 });
    expect(ids).toEqual([[1, 2]]);
    expect(weights).toEqual([[0.5, 0.5]]);
  });

  it('base: the best of all balanced assignments', () => {
    const next = generator(1);
    for (let round = 0; round < 200; round++) {
      const [tokens, experts] = [1 + Math.floor(next() * 6), 1 + Math.floor(next() * 4)];
      const scores = Array.from({ length: tokens }, () =>
        Array.from({ length: experts }, () => next() - 0.5),
      );
      const total = (choice: readonly number[]): number =>
        choice.reduce((sum, e, t) => sum + (scores[t]?.[e] as number), 0);
      const places = Math.ceil(tokens / experts);
      const balanced = (choice: readonly number[]): boolean =>
        counts([choice], experts).every((n) => n <= places);
      let best = Number.NEGATIVE_INFINITY;
      for (let code = 0; code < experts ** tokens; code++) {
        const choice = Array.from({ length: tokens }, (_, t) => Math.floor(code / experts ** t) % experts);
        if (balanced(choice)) best = Math.max(best, total(choice));
      }
      const got = gating.base(scores).ids.flat();
      expect(balanced(got)).toBe(true);
      expect(total(got)).toBeCloseTo(best, 12);
    }
  });

  it('soft-moe and soft-merging look at one sequence at a time', () => {
    const both = gating.softMoe(two, { sequences: 2 });
    const alone = gating.softMoe(two.slice(0, 2));
    expect(both.dispatch.slice(0, 2)).toEqual(alone.dispatch);
    expect(gating.softMerging(two, { sequences: 2 }).shares[0]?.[0]).toBeCloseTo(0.75, 12);
  });

  it('k as many as experts: everyone is certain to be chosen', () => {
    expect(losses.smoothLoad(two, two, two, 2)).toEqual([4, 4]);
  });

  it('erf', () => {
    // Abramowitz & Stegun, table 7.1
    const table = { 0: 0, 0.5: 0.520499877813, 1: 0.84270079295, 2: 0.995322265019 };
    for (const [x, y] of Object.entries(table)) expect(erf(Number(x))).toBeCloseTo(y, 11);
    expect(erf(-7)).toBe(-1);
  });

  it('no tokens', () => {
    const expert = { down: [[1, 2]] };
    const route = (none: Matrix) => gating.softmaxTopK(none, { k: 1 });
    expect(referenceLayer([], { experts: [expert], router: [[1, 1]], route }).output).toEqual([]);
  });
});
