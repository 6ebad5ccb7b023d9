/** Layers of an encoder, or of the decoder of an encoder-decoder, as a graph on tokens [N, D]. */
import type { ComputeMode } from '../../core/format.js';
import { ropeTable } from '../../core/ops/attention.js';
import { add, zeros } from '../../core/ops/elementwise.js';
import { takeRows } from '../../core/ops/indexing.js';
import { concat, transpose } from '../../core/ops/shape.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import type { SparsePlan } from '../../moe/plan.js';
import type { Attend } from '../../nn/attention.js';
import type { AttendMemory } from '../../nn/cross-attention.js';
import { Embedding } from '../../nn/linear.js';
import type { Norm } from '../../nn/norm.js';
import { distanceBuckets } from '../../nn/relative-bias.js';
import type { Block, PassContext } from '../decoder/block.js';
import { buildBlock } from '../decoder/build.js';
import type { Scope } from '../decoder/parameters.js';
import type { StackConfig } from './stack-config.js';

export interface StackParts {
  /** Learned positions. */
  readonly positions: Embedding | null;
  readonly embeddingNorm: Norm | null;
  readonly layers: readonly Block[];
  readonly finalNorm: Norm | null;
}

/** @param source where the stack's parameters are */
export function buildStack(config: StackConfig, source: Scope): Stack {
  const { dModel, nLayers, nHeads, norm, learnedPositions: learned, relativeBias, memory, capacity } = config;
  let positionBias: { table: Tensor; left: number } | null = null;
  if (relativeBias) {
    const rows = source.vector('relative_bias.weight', 'attention', relativeBias.buckets, nHeads);
    const { buckets, left } = distanceBuckets({ ...relativeBias, bidirectional: !memory });
    positionBias = { table: transpose(takeRows(rows, tensor(buckets)), [1, 0]), left };
  }
  const parts: StackParts = {
    positions: learned ? new Embedding(source.matrix('positions', 'embedding', learned.rows, dModel)) : null,
    embeddingNorm: config.embeddingNorm ? source.norm('embedding_norm', dModel, norm) : null,
    layers: Array.from({ length: nLayers }, (_, i) =>
      buildBlock(config, i, source.at(`layers.${i}`), { memory, capacity, positionBias }),
    ),
    finalNorm: config.finalNorm ? source.norm('final_norm', dModel, norm) : null,
  };
  return new Stack(config, parts);
}

export interface StackInputs {
  /** i32 [N] */
  readonly tokens: Tensor;
  /** [N, D] */
  readonly embedded: Tensor;
  /** i32 [N] */
  readonly positions: Tensor;
  /** How layer `index` mixes values among its own tokens. */
  attend(index: number): Attend;
  /** How layer `index` mixes values of a memory, where the stack has one. */
  attendMemory?(index: number): AttendMemory;
  /**
   * Sequences of equal length that the tokens are: each has the places of an expert for itself, or all have them together, as
   * the config says. Null: each token has, so that none is dropped.
   */
  readonly sequences: number | null;
  /** bool [N]: tokens that are real; null: all. */
  readonly real: Tensor | null;
  /** i32 [M]: the rows of the last state that are wanted; default: all. */
  readonly rows?: Tensor;
}

export interface StackOutputs {
  /** [M, D], after the final norm. */
  readonly last: Tensor;
  /** What enters the first layer, then each layer's output, the last one after the final norm: [N, D]. */
  readonly hiddenStates: readonly Tensor[];
  /** Per sparse layer, in order. */
  readonly routing: readonly SparsePlan[];
}

export class Stack {
  constructor(
    readonly config: StackConfig,
    readonly parts: StackParts,
  ) {}

  forward(inputs: StackInputs, compute: ComputeMode): StackOutputs {
    const { layers, finalNorm } = this.parts;
    const { tokens, sequences, real, rows } = inputs;
    const { sharesCapacity, routesPadding } = this.config;
    const groups = sequences === null ? (tokens.shape[0] as number) : sharesCapacity ? 1 : sequences;
    const context: PassContext = {
      table: null,
      compute,
      tokens,
      routing: [],
      groups,
      routed: routesPadding ? null : real,
    };
    let x = this.#enter(inputs);
    const hiddenStates = [x];
    for (const [i, layer] of layers.entries()) {
      x = layer.forward(x, inputs.attend(i), context, inputs.attendMemory?.(i));
      hiddenStates.push(x);
    }
    const picked = rows ? takeRows(x, rows) : x;
    const last = finalNorm ? finalNorm.forward(picked) : picked;
    if (!rows) hiddenStates[hiddenStates.length - 1] = last;
    return { last, hiddenStates, routing: context.routing };
  }

  #enter({ embedded, positions }: StackInputs): Tensor {
    const { positions: learned, embeddingNorm } = this.parts;
    const { learnedPositions, sinusoids } = this.config;
    let x = embedded;
    if (learned) x = add(x, learned.forward(add(positions, learnedPositions?.offset ?? 0)));
    if (sinusoids) x = add(x, sinusoidsOf(add(positions, sinusoids.offset), x.shape[1] as number));
    return embeddingNorm ? embeddingNorm.forward(x) : x;
  }
}

/** Base of the wavelengths (Vaswani et al. 2017, section 3.5). */
const LONGEST = 10_000;

/** All sines, then all cosines, of positions i32 [N] times falling frequencies: [N, width], as tensor2tensor orders them. */
function sinusoidsOf(positions: Tensor, width: number): Tensor {
  const half = Math.floor(width / 2);
  const step = Math.fround(Math.log(LONGEST) / (half - 1));
  const frequencies = Float32Array.from({ length: half }, (_, i) => Math.exp(Math.fround(-i * step)));
  const { sin, cos } = ropeTable(positions, tensor(frequencies));
  const odd = width % 2 === 1 ? [zeros([positions.shape[0] as number, 1])] : [];
  return concat([sin, cos, ...odd], 1);
}
