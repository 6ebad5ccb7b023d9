/** The tokens, the layers and the measures of the pictures in docs/moe.md. */
import { moe, ops, type Tensor, tensor } from '../src/index.js';

export const EXPERTS = 8;
const [SEQUENCES, TIME] = [4, 64];
const TOKENS = SEQUENCES * TIME;
const [WORDS, SEED] = [40, 7];
/** What the router likes and dislikes, whatever the token. */
const FAVOUR = [1.4, 0.9, 0.5, 0.2, -0.1, -0.4, -0.8, -1.2];
/** The tokens whose weights are drawn: the last of the first sequence, where capacity has run out. */
export const SHOWN = { from: 40, count: 24 };

/** Who decides the load. */
export type Family =
  | 'the token chooses'
  | 'chosen so that the load is even'
  | 'no router'
  | 'all experts, mixed';

export interface Scene {
  /** Of the picture's file, and of the policy's section in docs/moe.md. */
  readonly name: string;
  readonly title: string;
  readonly family: Family;
  /** [E]: tokens of each expert; for mixtures its summed weight. */
  readonly load: readonly number[];
  /** [SHOWN.count][E]: weight of each expert's output. */
  readonly weights: readonly (readonly number[])[];
  /** Share of the choices that no expert took; null where nothing is chosen. */
  readonly dropped: number | null;
  /** Share of the tokens that meet no expert. */
  readonly unserved: number;
}

interface Setup {
  readonly name: moe.GatingName | string;
  readonly title?: string;
  readonly family: Family;
  readonly gating: moe.GatingName | moe.Gating;
  readonly topK?: number;
  readonly capacity?: moe.CapacityOptions;
  readonly training?: boolean;
  readonly learnedBias?: boolean;
}

const { gating } = moe;
const chooses = { family: 'the token chooses', training: true } as const;
const even = { family: 'chosen so that the load is even', training: true } as const;
const mixed = { family: 'all experts, mixed', training: true } as const;

/** Every policy once, in the order of docs/moe.md; all as in training, with seed 1. */
export const POLICIES: readonly Setup[] = [
  { name: 'softmax-top-k', gating: 'softmax-top-k', topK: 2, ...chooses },
  { name: 'top-k-softmax', gating: 'top-k-softmax', topK: 2, ...chooses },
  { name: 'noisy-top-k', gating: 'noisy-top-k', topK: 2, ...chooses },
  { name: 'sparse-mixer', gating: 'sparse-mixer', topK: 2, ...chooses },
  { name: 'switch-top-1', gating: 'switch-top-1', ...chooses },
  { name: 'st-moe-top-2', gating: gating.stMoeTop2({ secondThreshold: 0.5 }), ...chooses },
  { name: 'sigmoid-top-k', gating: 'sigmoid-top-k', topK: 2, ...chooses },
  {
    name: 'group-limited-greedy',
    gating: gating.groupLimitedGreedy({ groups: 4, topGroups: 1 }),
    topK: 2,
    ...chooses,
  },
  { name: 'expert-choice', gating: 'expert-choice', ...even },
  { name: 'sinkhorn', gating: 'sinkhorn', ...even },
  { name: 'base', gating: 'base', ...even },
  { name: 'hash', gating: 'hash', family: 'no router', training: true },
  { name: 'random', gating: 'random', topK: 2, family: 'no router', training: true },
  { name: 'dense', gating: 'dense', ...mixed },
  { name: 'adaptive-mixture', gating: 'adaptive-mixture', ...mixed },
  { name: 'soft-moe', gating: 'soft-moe', ...mixed },
  { name: 'soft-merging', gating: 'soft-merging', ...mixed },
];

const top2 = { gating: 'softmax-top-k', topK: 2, ...chooses } as const;
/** What else moves the load. */
export const VARIANTS: readonly Setup[] = [
  {
    name: 'sigmoid-top-k',
    title: 'sigmoid + learned bias',
    gating: 'sigmoid-top-k',
    topK: 2,
    learnedBias: true,
    ...chooses,
  },
  { name: 'base', title: 'base in evaluation', gating: 'base', ...chooses, training: false },
  { ...top2, name: 'capacity-drop', title: 'capacity 1, drop', capacity: { factor: 1 } },
  {
    ...top2,
    name: 'capacity-next-best',
    title: 'capacity 1, next-best',
    capacity: { factor: 1, overflow: 'next-best' },
  },
];
export const CAPACITIES: readonly Setup[] = [
  { ...top2, name: 'dropless', title: 'dropless: no capacity' },
  { ...top2, name: 'drop', title: 'capacity 1, drop', capacity: { factor: 1 } },
  {
    ...top2,
    name: 'drop by probability',
    title: 'capacity 1, drop, surest first',
    capacity: { factor: 1, priority: 'probability' },
  },
  {
    ...top2,
    name: 'next-best',
    title: 'capacity 1, next-best',
    capacity: { factor: 1, overflow: 'next-best' },
  },
];

/** Words as texts have them, few often and most seldom: ids i32 [B, T], and x [B, T, E] that is its own router logits. */
async function drawTokens(): Promise<{ x: Tensor; tokenIds: Tensor }> {
  const noise = moe.seededNoise(SEED);
  const [draws, meanings, context] = await Promise.all([
    noise.uniform([TOKENS]).data(),
    noise.normal([WORDS, EXPERTS]).data(),
    noise.normal([TOKENS, EXPERTS]).data(),
  ]);
  const words: number[] = []; // a word as often as its share of 1 + 1/2 + 1/3 + …, in thousandths
  for (let w = 0; w < WORDS; w++) words.push(...new Array<number>(Math.round(1000 / (w + 1))).fill(w));
  const ids = Int32Array.from(draws, (u) => words[Math.floor(u * words.length)] as number);
  const x = Float32Array.from({ length: TOKENS * EXPERTS }, (_, i) => {
    const [token, e] = [Math.floor(i / EXPERTS), i % EXPERTS];
    const meaning = meanings[(ids[token] as number) * EXPERTS + e] as number;
    return (FAVOUR[e] as number) + meaning + 0.5 * (context[i] as number);
  });
  return { x: tensor(x, [SEQUENCES, TIME, EXPERTS]), tokenIds: tensor(ids, [SEQUENCES, TIME]) };
}

/** A router whose logits are x. */
const identity = tensor(
  Array.from({ length: EXPERTS }, (_, r) => Array.from({ length: EXPERTS }, (_, c) => (r === c ? 1 : 0))),
);

function layerOf({ gating, topK, capacity }: Setup, selectionBias: Tensor | null): moe.MoELayer {
  const options: moe.MoELayerOptions = {
    dModel: EXPERTS,
    dFf: 2,
    nExperts: EXPERTS,
    gating,
    capacity: capacity ?? null,
    ...(topK ? { topK } : {}),
  };
  const { parameters } = new moe.MoELayer(options);
  const router = parameters.router && { weight: identity };
  return new moe.MoELayer(options, { ...parameters, router, selectionBias });
}

/** A bias moved by 300 steps of `updateSelectionBias` on these tokens. */
async function learnBias(setup: Setup, x: Tensor): Promise<Tensor> {
  let bias: Tensor = tensor(new Float32Array(EXPERTS));
  for (let step = 0; step < 300; step++) {
    const { plan } = layerOf(setup, bias).forward(x);
    if (plan.kind !== 'sparse') throw new Error(`a bias for ${plan.kind} routing`);
    bias = tensor(
      (await moe.updateSelectionBias(bias, plan.wishedIds, { rate: 0.005 }).data()) as Float32Array,
    );
  }
  return bias;
}

/** What one setup does with the tokens. */
async function measure(setup: Setup, x: Tensor, tokenIds: Tensor): Promise<Scene> {
  const bias = setup.learnedBias ? await learnBias(setup, x) : null;
  const layer = layerOf(setup, bias);
  const { plan } = layer.forward(x, { tokenIds, seed: 1, training: setup.training ?? false });
  let matrix: Tensor; // [N, E]
  let ids: ArrayLike<number> | null = null;
  if (plan.kind === 'sparse') {
    matrix = moe.gateMatrix(plan.expertIds, plan.combineWeights, EXPERTS);
    if (setup.family !== 'all experts, mixed') ids = await plan.expertIds.data();
  } else if (plan.kind === 'soft')
    matrix = ops.reshape(plan.combine, [TOKENS, EXPERTS]); // a slot each
  else {
    const shares = ops.reshape(plan.shares, [SEQUENCES, 1, EXPERTS]);
    matrix = ops.reshape(ops.broadcastTo(shares, [SEQUENCES, TIME, EXPERTS]), [TOKENS, EXPERTS]);
  }
  const weights = await matrix.data();
  const row = (t: number): number[] =>
    Array.from({ length: EXPERTS }, (_, e) => Math.round((weights[t * EXPERTS + e] as number) * 100) / 100);
  const summed = new Array<number>(EXPERTS).fill(0);
  for (let i = 0; i < weights.length; i++) summed[i % EXPERTS] += weights[i] as number;
  const chosen = ids && moe.loadStatistics(ids, EXPERTS);
  const everyChoiceCounts = setup.gating !== 'expert-choice'; // there -1 is no wish that failed
  return {
    name: setup.name,
    title: setup.title ?? setup.name,
    family: setup.family,
    load: chosen ? chosen.tokensPerExpert : summed,
    weights: Array.from({ length: SHOWN.count }, (_, i) => row(SHOWN.from + i)),
    dropped: chosen && everyChoiceCounts ? chosen.dropped : null,
    unserved: ids ? unservedShare(ids, layer.topK) : 0,
  };
}

function unservedShare(ids: ArrayLike<number>, k: number): number {
  let without = 0;
  for (let t = 0; t < TOKENS; t++)
    if (Array.from({ length: k }, (_, i) => ids[t * k + i]).every((e) => e === -1)) without++;
  return without / TOKENS;
}

/** All setups on the same tokens. */
export async function scenesOf(setups: readonly Setup[]): Promise<Scene[]> {
  const { x, tokenIds } = await drawTokens();
  const scenes: Scene[] = [];
  for (const setup of setups) scenes.push(await measure(setup, x, tokenIds));
  return scenes;
}
