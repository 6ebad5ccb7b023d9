/** Random sparse layers: one drawn case as the real layer and as its definition. */
import * as fc from 'fast-check';
import type { Device } from '../../src/core/device.js';
import { ACTIVATION_NAMES, type Activation } from '../../src/core/ops/elementwise.js';
import { sizeOf } from '../../src/core/shape.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import type { Weight } from '../../src/core/weight.js';
import { packValues } from '../../src/models/read/weights.js';
import { type CapacityOptions, expertCapacity } from '../../src/moe/capacity.js';
import * as real from '../../src/moe/gating/index.js';
import { type MoEForwardOptions, MoELayer } from '../../src/moe/layer.js';
import type { MoEParameters } from '../../src/moe/parameters.js';
import type {
  Matrix,
  ReferenceExpert,
  ReferenceLayerOptions,
  ReferenceLimit,
  ReferenceRouting,
  Vector,
} from '../../src/moe/reference.js';
import * as defined from '../../src/moe/reference-gating.js';
import { generator } from '../helpers/random.js';

export interface LayerCase {
  policy: real.GatingName;
  sequences: number;
  /** Tokens of a sequence. */
  time: number;
  nExperts: number;
  k: number;
  dModel: number;
  dFf: number;
  activation: Activation;
  gated: boolean;
  bias: boolean;
  packed: boolean;
  shared: 'none' | 'plain' | 'gated';
  selectionBias: boolean;
  training: boolean;
  renormalize: boolean;
  scale: number;
  groups: number;
  topGroups: number;
  capacity: CapacityOptions | null;
  /** One expert that nearly every token wants. */
  favourite: boolean;
  seed: number;
}

/** Policies that know a next-best expert. */
const RANKED = [
  'softmax-top-k',
  'top-k-softmax',
  'noisy-top-k',
  'switch-top-1',
  'sigmoid-top-k',
  'sparse-mixer',
  'sinkhorn',
];
const BIASED = [
  'softmax-top-k',
  'top-k-softmax',
  'noisy-top-k',
  'sigmoid-top-k',
  'group-limited-greedy',
  'sparse-mixer',
];
/** Policies whose K is the layer's. */
const FREE_K = [...BIASED, 'random'];
/** Policies that capacity does not limit: all tokens are mixed. */
const UNLIMITED = ['soft-moe', 'soft-merging'];
export const routerless = (policy: string): boolean => policy === 'hash' || policy === 'random';

const capacities = (ranked: boolean): fc.Arbitrary<CapacityOptions> =>
  fc
    .record({
      size: fc.oneof(
        fc.record({ slots: fc.integer({ min: 0, max: 4 }) }),
        fc.record({
          factor: fc.constantFrom(0.25, 0.5, 1, 1.25, 2),
          rounding: fc.constantFrom('ceil' as const, 'floor' as const),
          minimum: fc.integer({ min: 0, max: 2 }),
        }),
      ),
      group: fc.constantFrom('sequence' as const, 'batch' as const, 1),
      overflow: fc.constantFrom('drop' as const, ranked ? ('next-best' as const) : ('drop' as const)),
      priority: fc.constantFrom('order' as const, 'probability' as const),
    })
    .map(({ size, ...rest }) => ({ ...size, ...rest }));

/** Small layers of every policy, options that go together. */
export const layerCases: fc.Arbitrary<LayerCase> = fc
  .record({
    policy: fc.constantFrom(...real.gatingNames),
    nExperts: fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constantFrom(2, 3, 4, 8, 17)),
    groups: fc.integer({ min: 1, max: 4 }),
  })
  .chain(({ policy, nExperts, groups: wanted }) => {
    const experts = policy === 'st-moe-top-2' ? Math.max(2, nExperts) : nExperts;
    const limitable = ['sigmoid-top-k', 'group-limited-greedy'].includes(policy);
    const groups = limitable && experts % wanted === 0 ? wanted : 1;
    const ranked = RANKED.includes(policy) && groups === 1;
    const fixed = { 'switch-top-1': 1, 'st-moe-top-2': 2, sinkhorn: 1, base: 1, hash: 1 }[policy as string];
    return fc
      .record({
        sequences: fc.integer({ min: 1, max: 3 }),
        time: fc.oneof(
          { arbitrary: fc.integer({ min: 1, max: 7 }), weight: 9 },
          { arbitrary: fc.constant(0), weight: 1 },
        ),
        topGroups: fc.integer({ min: 1, max: groups }),
        k: fc.integer({ min: 1, max: experts }),
        dModel: fc.integer({ min: 1, max: 9 }),
        dFf: fc.integer({ min: 1, max: 10 }),
        activation: fc.constantFrom(...ACTIVATION_NAMES),
        gated: fc.boolean(),
        bias: fc.boolean(),
        packed: fc.boolean(),
        shared: fc.constantFrom('none' as const, 'plain' as const, 'gated' as const),
        selectionBias: fc.boolean(),
        training: fc.boolean(),
        renormalize: fc.boolean(),
        scale: fc.constantFrom(1, 2.5),
        capacity: UNLIMITED.includes(policy) ? fc.constant(null) : fc.option(capacities(ranked)),
        favourite: fc.boolean(),
        seed: fc.nat(),
      })
      .map((c) => ({
        ...c,
        policy,
        nExperts: experts,
        groups,
        k: fixed ?? (FREE_K.includes(policy) ? Math.min(c.k, (experts / groups) * c.topGroups) : experts),
        selectionBias: c.selectionBias && BIASED.includes(policy),
        packed: c.packed && policy !== 'soft-merging', // averages tensors only
      }));
  });

/** Everything a case computes with, as float32 numbers. */
class Numbers {
  readonly #next: () => number;
  constructor(seed: number) {
    this.#next = generator(seed);
  }
  /** Even in [-1, 1) · size. */
  vector = (n: number, size = 1): number[] =>
    Array.from({ length: n }, () => Math.fround((2 * this.#next() - 1) * size));
  matrix = (rows: number, columns: number, size = 1): number[][] =>
    Array.from({ length: rows }, () => this.vector(columns, size));
  /** Even in [0, 1). */
  uniform = (n: number): number[] => Array.from({ length: n }, () => Math.fround(this.#next() * 0.999));
  whole = (n: number, below: number): number[] =>
    Array.from({ length: n }, () => Math.floor(this.#next() * below));
}

const rows = (v: Vector, width: number): Matrix =>
  Array.from({ length: v.length / width }, (_, t) => v.slice(t * width, (t + 1) * width));

/** A policy as it is built and as it is defined. */
interface Recipe {
  gating: real.Gating;
  route(logits: Matrix): ReferenceRouting;
  /** The sum of a token's weights before capacity; null: what the router says. */
  sum: number | null;
}

/** Drawn numbers that policies ask for in training. */
interface Drawn {
  normal: number[];
  uniform: number[];
  table: number[];
  tokenIds: number[];
}

function recipeOf(
  c: LayerCase,
  drawn: Drawn,
  x: Matrix,
  parts: { wNoise: Matrix; bias: Vector | null },
): Recipe {
  const { k, training, renormalize, scale, groups, topGroups, sequences, time, nExperts } = c;
  const { bias } = parts;
  const top = { k, renormalize, scale, bias };
  const grouped = { ...top, groups, topGroups };
  const noGroups = { renormalize, scale };
  const sum = renormalize ? scale : null;
  const recipes: Record<real.GatingName, () => Recipe> = {
    'softmax-top-k': () => ({
      gating: real.softmaxTopK(noGroups),
      route: (logits) => defined.softmaxTopK(logits, top),
      sum,
    }),
    'top-k-softmax': () => ({
      gating: real.topKSoftmax(),
      route: (logits) => defined.topKSoftmax(logits, { k, bias }),
      sum: 1,
    }),
    'sparse-mixer': () => ({
      gating: real.sparseMixer({ jitter: 0.2 }),
      route: (logits) => defined.sparseMixer(logits, { k, bias, jitter: 0.2 }),
      sum: null,
    }),
    'noisy-top-k': () => ({
      gating: real.noisyTopK(),
      route: (logits) => {
        const noise = rows(training ? drawn.normal : drawn.normal.map(() => 0), nExperts);
        return defined.noisyTopK(logits, { k, bias, noise, std: defined.noiseStd(x, parts.wNoise) });
      },
      sum: 1,
    }),
    'switch-top-1': () => ({ gating: real.switchTop1({ jitter: 0 }), route: defined.switchTop1, sum: null }),
    'st-moe-top-2': () => ({
      gating: real.stMoeTop2({ secondThreshold: 0.5 }),
      route: (logits) => {
        const uniform = x.map((_, t) => (training ? (drawn.uniform[2 * t + 1] as number) : 0));
        return defined.stMoeTop2(logits, { uniform, threshold: 0.5 });
      },
      sum: 1,
    }),
    'sigmoid-top-k': () => ({
      gating: real.sigmoidTopK({ ...noGroups, groups, topGroups }),
      route: (logits) => defined.sigmoidTopK(logits, grouped),
      sum,
    }),
    'group-limited-greedy': () => ({
      gating: real.groupLimitedGreedy({ ...noGroups, groups, topGroups }),
      route: (logits) => defined.groupLimitedGreedy(logits, grouped),
      sum,
    }),
    'expert-choice': () => ({
      gating: real.expertChoice({ factor: scale, group: renormalize ? 'batch' : 'sequence' }),
      route: (logits) =>
        defined.expertChoice(logits, { factor: scale, ...(renormalize ? {} : { group: time }) }),
      sum: null,
    }),
    dense: () => ({ gating: real.dense(), route: defined.dense, sum: 1 }),
    'adaptive-mixture': () => ({ gating: real.adaptiveMixture(), route: defined.adaptiveMixture, sum: 1 }),
    'soft-moe': () => ({
      gating: real.softMoe({ slots: groups === 1 ? 1 + (c.seed % 3) : 1 }),
      route: (logits) => defined.softMoe(logits, { sequences }),
      sum: 1,
    }),
    'soft-merging': () => ({
      gating: real.softMerging(),
      route: (logits) => defined.softMerging(logits, { sequences }),
      sum: 1,
    }),
    sinkhorn: () => ({
      gating: real.sinkhorn({ rounds: 5 }),
      route: (logits) => defined.sinkhorn(logits, { rounds: 5, training }),
      sum: null,
    }),
    base: () => ({ gating: real.base(), route: (logits) => defined.base(logits, { training }), sum: null }),
    hash: () => ({
      gating: real.hash({ table: drawn.table }),
      route: () => defined.hash(drawn.tokenIds, { table: drawn.table, experts: nExperts }),
      sum: 1,
    }),
    random: () => ({
      gating: real.random(),
      route: () => defined.random(rows(drawn.uniform.slice(0, x.length * nExperts), nExperts), { k }),
      sum: 1,
    }),
  };
  return recipes[c.policy]();
}

/** The places of an expert in a group of tokens, and the group's size; null without capacity. */
export function limitOf(c: LayerCase, k: number): (ReferenceLimit & { group: number }) | null {
  const { capacity } = c;
  if (!capacity) return null;
  const n = c.sequences * c.time;
  const { group: spelled = 'sequence', factor, rounding, minimum, overflow, priority } = capacity;
  const group = spelled === 'batch' ? n : spelled === 'sequence' ? c.time : spelled;
  const slots =
    capacity.slots ??
    expertCapacity({
      tokens: group,
      nExperts: c.nExperts,
      factor: factor as number,
      topK: k,
      rounding,
      minimum,
    });
  return { slots, group, ...(overflow ? { overflow } : {}), ...(priority ? { priority } : {}) };
}

export interface RandomLayer {
  c: LayerCase;
  layer: MoELayer;
  /** [B, T, D] */
  x: Tensor;
  /** x as rows [N, D]. */
  tokens: Matrix;
  options: MoEForwardOptions;
  recipe: Recipe;
  /** One row per token; hash only. */
  tokenIds: number[];
  /** The same layer by definition. */
  definition: ReferenceLayerOptions;
}

const flat = (m: readonly Matrix[] | Matrix): Float32Array =>
  Float32Array.from((m as Matrix[]).flat(2) as number[]);

/** @param routerBias of so many logits, instead of a drawn one */
export async function randomLayer(
  c: LayerCase,
  device: Device,
  routerBias?: (outputs: number) => Vector,
): Promise<RandomLayer> {
  const { sequences, time, nExperts: e, dModel: d, dFf: f, gated, bias } = c;
  const n = sequences * time;
  const draw = new Numbers(c.seed);
  const drawn: Drawn = {
    normal: draw.vector(n * e, 2),
    uniform: draw.uniform(n * Math.max(e, d, 2)),
    table: draw.whole(11, e),
    tokenIds: draw.whole(n, 11),
  };
  const tokens = draw.matrix(n, d);
  const wNoise = draw.matrix(e, d);
  const selection = draw.vector(e, 0.3);
  const recipe = recipeOf(c, drawn, tokens, { wNoise, bias: c.selectionBias ? selection : null });
  const outputs = (recipe.gating.outputsPerExpert ?? 1) * e;
  const router = draw.matrix(outputs, d, 2);
  const drawnBias = draw.vector(outputs, 0.5);
  if (c.favourite) drawnBias[c.seed % Math.max(1, outputs)] = 3;
  const addedBias = routerBias?.(outputs) ?? drawnBias;
  const experts: ReferenceExpert[] = Array.from({ length: e }, () => ({
    gate: gated ? draw.matrix(f, d) : null,
    up: draw.matrix(f, d),
    down: draw.matrix(d, f),
    ...(bias && gated ? { gateBias: draw.vector(f) } : {}),
    ...(bias ? { upBias: draw.vector(f), downBias: draw.vector(d) } : {}),
  }));
  const common: ReferenceExpert = {
    gate: gated ? draw.matrix(3, d) : null,
    up: draw.matrix(3, d),
    down: draw.matrix(d, 3),
  };
  const outputGate = draw.vector(d);

  const pack = (
    of: (x: ReferenceExpert) => Matrix,
    height: number,
    width: number,
  ): Promise<Weight> | Tensor => {
    const values = flat(experts.map(of));
    return c.packed ? packValues(device, values, height, width, e) : tensor(values, [e, height, width]);
  };
  const biasOf = (of: (x: ReferenceExpert) => Vector | null | undefined, width: number): Tensor | null =>
    of(experts[0] as ReferenceExpert) ? tensor(flat(experts.map((x) => of(x) as Vector)), [e, width]) : null;
  const matrixOf = (m: Matrix): { weight: Tensor } => ({
    weight: tensor(flat(m), [m.length, (m[0] as Vector).length]),
  });
  const parameters: MoEParameters = {
    router: routerless(c.policy) ? null : { ...matrixOf(router), bias: tensor(Float32Array.from(addedBias)) },
    experts: {
      gate: gated ? await pack((x) => x.gate as Matrix, f, d) : null,
      up: await pack((x) => x.up as Matrix, f, d),
      down: await pack((x) => x.down, d, f),
      gateBias: biasOf((x) => x.gateBias, f),
      upBias: biasOf((x) => x.upBias, f),
      downBias: biasOf((x) => x.downBias, d),
    },
    ...(c.shared === 'none'
      ? {}
      : {
          shared: {
            gate: common.gate ? matrixOf(common.gate) : null,
            up: matrixOf(common.up as Matrix),
            down: matrixOf(common.down),
            ...(c.shared === 'gated' ? { outputGate: matrixOf([outputGate]) } : {}),
          },
        }),
    ...(c.policy === 'noisy-top-k' ? { gating: { noise: matrixOf(wNoise).weight } } : {}),
    ...(c.selectionBias ? { selectionBias: tensor(Float32Array.from(selection)) } : {}),
  };
  const layer = new MoELayer(
    {
      dModel: d,
      dFf: f,
      nExperts: e,
      ...(FREE_K.includes(c.policy) ? { topK: c.k } : {}),
      gating: recipe.gating,
      activation: c.activation,
      gated,
      bias,
      capacity: c.capacity,
      ...(c.shared === 'none' ? {} : { nSharedExperts: 1, dFfShared: 3, sharedGate: c.shared === 'gated' }),
    },
    parameters,
  );
  const options: MoEForwardOptions = {
    training: c.training,
    noise: {
      normal: (shape) => tensor(Float32Array.from(drawn.normal.slice(0, sizeOf(shape))), shape),
      uniform: (shape) => tensor(Float32Array.from(drawn.uniform.slice(0, sizeOf(shape))), shape),
      part: () => ({ seed: 0, offset: 0 }),
    },
    ...(c.policy === 'hash' ? { tokenIds: tensor(Int32Array.from(drawn.tokenIds), [sequences, time]) } : {}),
  };
  const definition: ReferenceLayerOptions = {
    experts,
    activation: c.activation,
    router: routerless(c.policy) ? null : router,
    routerBias: addedBias,
    route: recipe.route,
    limit: limitOf(c, c.k),
    sequences,
    shared: c.shared === 'none' ? null : common,
    sharedGate: c.shared === 'gated' ? outputGate : null,
  };
  const x = tensor(flat(tokens), [sequences, time, d]);
  return { c, layer, x, tokens, options, recipe, tokenIds: drawn.tokenIds, definition };
}
