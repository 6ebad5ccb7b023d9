/** The decoder as a graph: shared by all decoder families. */
import { SwitchyardError } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { add, mul } from '../../core/ops/elementwise.js';
import { takeRows } from '../../core/ops/indexing.js';
import { concat } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { MoELayer } from '../../moe/layer.js';
import type { SparsePlan } from '../../moe/plan.js';
import type { Attend } from '../../nn/attention.js';
import { RotaryEmbedding } from '../../nn/rope.js';
import type { PassContext } from './block.js';
import { buildDecoder, type DecoderParts } from './build.js';
import type { DecoderConfig } from './config.js';
import { type ParameterMap, type SplitMap, sourceOf } from './parameters.js';

export interface DecoderInputs {
  /** i32 [N] */
  readonly tokens: Tensor;
  /** i32 [N] */
  readonly positions: Tensor;
  /** How layer `index` mixes values: within the batch, or over a cache. */
  attend(index: number): Attend;
  /** i32 [M]: the rows that get logits; default: all. */
  readonly rows?: Tensor;
}

export interface DecoderOutputs {
  /** [M, V] */
  readonly logits: Tensor;
  /** Embeddings, each layer's output, the last one after the final norm and projection: [N, D]. */
  readonly hiddenStates: readonly Tensor[];
  /** Per sparse layer, in order. */
  readonly routing: readonly SparsePlan[];
}

export interface PredictionInputs extends Pick<DecoderInputs, 'tokens' | 'positions' | 'attend'> {
  /** [N, D] */
  readonly hidden: Tensor;
}

export interface PredictionOutputs {
  /** [N, V] */
  readonly logits: Tensor;
  /** [N, D], what the next prediction layer takes. */
  readonly hidden: Tensor;
}

/** Residual blocks on ragged tokens [N, D]. */
export class Decoder {
  readonly parts: DecoderParts;
  readonly rotary: RotaryEmbedding | null;

  /**
   * @param parameters by the names of `decoderParts`; a tied head is the embedding
   * @param contextLength longest sequence that will run; decides scalings that depend on it
   * @param splits places of experts on a GPU, for layers whose experts lie with the host
   */
  constructor(
    readonly config: DecoderConfig,
    readonly parameters: ParameterMap,
    readonly contextLength: number,
    readonly splits: SplitMap = new Map(),
  ) {
    this.parts = buildDecoder(config, sourceOf(parameters, splits));
    for (const { feedForward } of this.parts.layers)
      if (feedForward instanceof MoELayer && feedForward.gating.looksAhead) throw notCausal(feedForward);
    this.rotary = config.rope && new RotaryEmbedding(config.rope, contextLength);
  }

  forward({ tokens, positions, attend, rows }: DecoderInputs, compute: ComputeMode): DecoderOutputs {
    const { layers, finalNorm, projectOut } = this.parts;
    const table = this.rotary?.table(positions) ?? null;
    const context: PassContext = { table, compute, tokens, routing: [] };
    let x = this.#embed(tokens, positions, compute); // [N, D]
    const hiddenStates = [x];
    for (const [index, layer] of layers.entries()) {
      x = layer.forward(x, attend(index), context);
      hiddenStates.push(x);
    }
    const picked = rows ? takeRows(x, rows) : x;
    const normed = finalNorm ? finalNorm.forward(picked) : picked;
    const last = projectOut ? projectOut.forward(normed, compute) : normed;
    hiddenStates[hiddenStates.length - 1] = rows ? x : last;
    return { logits: this.logits(last, compute), hiddenStates, routing: context.routing };
  }

  /**
   * Logits of the token after the next: prediction layer `index` on the next tokens and the hidden states that predicted
   * them, the last ones of `forward` or those of the prediction layer before (DeepSeek-V3, eq. 21-23). Its keys and values are
   * those of layer nLayers + index.
   */
  predict(index: number, { hidden, ...inputs }: PredictionInputs, compute: ComputeMode): PredictionOutputs {
    const layer = this.parts.predictions[index];
    if (!layer)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[decoder] got prediction layer ${index}, expected one of ${this.parts.predictions.length}`,
      );
    const { tokens, positions, attend } = inputs;
    const table = this.rotary?.table(positions) ?? null;
    const embedded = this.#embed(tokens, positions, compute);
    const both = concat([layer.tokenNorm.forward(embedded), layer.hiddenNorm.forward(hidden)], 1);
    const x = layer.projection.forward(both, compute); // [N, D]
    const context: PassContext = { table, compute, tokens, routing: [] };
    const y = layer.norm.forward(layer.block.forward(x, attend(this.config.nLayers + index), context));
    return { logits: this.logits(y, compute), hidden: y };
  }

  /** The head: the last hidden states [M, D] → [M, V]. */
  logits(hidden: Tensor, compute: ComputeMode): Tensor {
    const y = this.parts.head.forward(hidden, compute);
    return this.config.logitScale === 1 ? y : mul(y, this.config.logitScale);
  }

  #embed(tokens: Tensor, positions: Tensor, compute: ComputeMode): Tensor {
    const { embedding, embeddingNorm, projectIn, positions: learned } = this.parts;
    const { embeddingScale, learnedPositions } = this.config;
    let x = embedding.forward(tokens);
    if (embeddingScale !== 1) x = mul(x, embeddingScale);
    if (projectIn) x = projectIn.forward(x, compute);
    if (learned) {
      const offset = learnedPositions?.offset ?? 0;
      x = add(x, learned.forward(offset === 0 ? positions : add(positions, offset)));
    }
    return embeddingNorm ? embeddingNorm.forward(x) : x;
  }
}

const notCausal = ({ gating }: MoELayer): SwitchyardError =>
  new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[decoder] got gating '${gating.name}', which looks at later tokens, expected one that routes each token by itself`,
  );
