/** What a gating policy is: router logits in, a routing out. */
import type { RuntimeInt } from '../../core/op.js';
import { randomNormal, randomUniform } from '../../core/ops/random.js';
import { type Shape, sizeOf } from '../../core/shape.js';
import type { Tensor } from '../../core/tensor.js';

/** Random numbers of a forward pass; each draw is a part of one stream. */
export interface NoiseSource {
  /** Standard normal. */
  normal(shape: Shape): Tensor;
  /** Uniform in [0, 1). */
  uniform(shape: Shape): Tensor;
  /** A part of the stream of `size` numbers, for an op that draws by itself. */
  part(size: number): { seed: number | RuntimeInt; offset: number };
}

/** The stream of a seed (Philox): the same seed gives the same numbers; a RuntimeInt gives others at each run. */
export function seededNoise(seed: number | RuntimeInt): NoiseSource {
  let next = 0;
  const part = (size: number): { seed: number | RuntimeInt; offset: number } => {
    const offset = next;
    next += size;
    return { seed, offset };
  };
  return {
    part,
    normal: (shape) => randomNormal(shape, part(sizeOf(shape))),
    uniform: (shape) => randomUniform(shape, part(sizeOf(shape))),
  };
}

/** What a policy may look at besides the logits. */
export interface GatingContext {
  /** The layer's input, f32 [N, D], N = B·T. */
  readonly x: Tensor;
  /** B: tokens of one sequence lie together. */
  readonly sequences: number;
  readonly nExperts: number;
  readonly topK: number;
  /** [E], added to the scores for the choice only; null where the layer has none. */
  readonly selectionBias: Tensor | null;
  /** The policy's own parameters by name. */
  readonly parameters: Readonly<Record<string, Tensor>>;
  /** i32 [N]; null where the caller gave none. */
  readonly tokenIds: Tensor | null;
  /** Whether noise, jitter and random choices apply. */
  readonly training: boolean;
  readonly noise: NoiseSource;
}

/** Tokens with their experts: what every sparse policy comes down to, whoever does the choosing. */
export interface SparseRouting {
  readonly kind: 'sparse';
  /** i32 [N, K], -1: none. The columns of a token are in the policy's order, best first where there is an order. */
  readonly expertIds: Tensor;
  /** [N, K]: weights of the experts' outputs. */
  readonly combineWeights: Tensor;
  /** [N, E]: router probabilities, what the balance losses take the mean of. */
  readonly probabilities: Tensor;
  /** [N, E]: what the choice was made from, where that is not the router's logits (noise, balancing). */
  readonly selectionLogits?: Tensor;
  /** i32 [N, E]: all experts of a token by falling preference; a policy without it knows no next-best expert. */
  readonly ranking?: () => Tensor;
  /** The weights of another choice i32 [N, K] (-1 gets 0), where capacity makes one. */
  readonly weigh?: (expertIds: Tensor) => Tensor;
  /** The most entries of expertIds that are not -1. Default N·K. */
  readonly rows?: number;
  /** [E]: a smooth count of tokens per expert that gradients pass through (Shazeer et al. 2017, eq. 10). */
  readonly smoothLoad?: Tensor;
}

/** Experts work on slots, weighted means of the tokens of a sequence. Column e·slots + s belongs to slot s of expert e. */
export interface SoftRouting {
  readonly kind: 'soft';
  /** [B, T, E·S], each column of a sequence sums to 1. */
  readonly dispatch: Tensor;
  /** [B, T, E·S], each row sums to 1. */
  readonly combine: Tensor;
}

/** The experts of a sequence are averaged to one. */
export interface MergedRouting {
  readonly kind: 'merged';
  /** [B, E], each row sums to 1. */
  readonly shares: Tensor;
}

export type Routing = SparseRouting | SoftRouting | MergedRouting;

export interface GatingSizes {
  readonly dModel: number;
  readonly nExperts: number;
}

/**
 * A gating policy turns router logits into a routing. It holds its own options, no state.
 * A new policy is one file beside this one and a line in index.ts.
 */
export interface Gating {
  readonly name: string;
  /** What the policy was made with, as plain data: a file that names it can make it again. Absent: it cannot be saved. */
  readonly options?: Readonly<Record<string, unknown>>;
  /** The K that the policy stands for; absent: the layer's. */
  topK?(nExperts: number): number;
  /** Router outputs per expert. Default 1; 0: the policy needs no router and gets logits of zeros. */
  readonly outputsPerExpert?: number;
  /** A token's routing depends on others, later ones too, also outside of training: not for causal decoding. */
  readonly looksAhead?: boolean;
  /** Shapes of parameters of its own; they start as zeros. */
  parameters?(sizes: GatingSizes): Readonly<Record<string, Shape>>;
  /** What the router reads instead of x [N, D]. */
  routerInput?(x: Tensor, context: GatingContext): Tensor;
  /** @param logits f32 [N, E·outputsPerExpert] */
  route(logits: Tensor, context: GatingContext): Routing;
}
