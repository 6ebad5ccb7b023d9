/** The decoder as a graph: shared by all decoder families. */

import { SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import { add } from '../core/ops/elementwise.js';
import { takeRows } from '../core/ops/indexing.js';
import type { Tensor } from '../core/tensor.js';
import { MoELayer } from '../moe/layer.js';
import type { SparsePlan } from '../moe/plan.js';
import type { Attend, Attention } from '../nn/attention.js';
import type { FeedForward } from '../nn/feed-forward.js';
import type { Embedding, Linear } from '../nn/linear.js';
import type { RmsNorm } from '../nn/norm.js';
import type { RotaryEmbedding } from '../nn/rope.js';
import type { DecoderConfig } from './config.js';

export interface DecoderLayer {
  readonly attentionNorm: RmsNorm;
  readonly attention: Attention;
  readonly feedForwardNorm: RmsNorm;
  readonly feedForward: FeedForward | MoELayer;
}

export interface DecoderParts {
  readonly embedding: Embedding;
  readonly rotary: RotaryEmbedding;
  readonly layers: readonly DecoderLayer[];
  readonly finalNorm: RmsNorm;
  readonly head: Linear;
}

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
  /** Embeddings, each layer's output, the last one after the final norm: [N, D]. */
  readonly hiddenStates: readonly Tensor[];
  /** Per sparse layer, in order. */
  readonly routing: readonly SparsePlan[];
}

/** Pre-norm residual blocks on ragged tokens [N, D]. */
export class Decoder {
  constructor(
    readonly config: DecoderConfig,
    readonly parts: DecoderParts,
  ) {
    for (const { feedForward } of parts.layers)
      if (feedForward instanceof MoELayer && feedForward.gating.looksAhead) throw notCausal(feedForward);
  }

  forward({ tokens, positions, attend, rows }: DecoderInputs, compute: ComputeMode): DecoderOutputs {
    const { embedding, rotary, layers, finalNorm, head } = this.parts;
    const table = rotary.table(positions);
    const routing: SparsePlan[] = [];
    let x = embedding.forward(tokens); // [N, D]
    const hiddenStates = [x];
    for (const [index, layer] of layers.entries()) {
      x = add(x, layer.attention.forward(layer.attentionNorm.forward(x), table, attend(index), compute));
      const normed = layer.feedForwardNorm.forward(x);
      if (layer.feedForward instanceof MoELayer) {
        const { output, plan } = layer.feedForward.forward(normed, { compute, tokenIds: tokens });
        if (plan.kind !== 'sparse') throw notCausal(layer.feedForward);
        routing.push(plan);
        x = add(x, output);
      } else {
        x = add(x, layer.feedForward.forward(normed, compute));
      }
      hiddenStates.push(x);
    }
    const last = finalNorm.forward(rows ? takeRows(x, rows) : x);
    hiddenStates[hiddenStates.length - 1] = rows ? x : last;
    return { logits: head.forward(last, compute), hiddenStates, routing };
  }
}

const notCausal = ({ gating }: MoELayer): SwitchyardError =>
  new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[decoder] got gating '${gating.name}', which looks at later tokens, expected one that routes each token by itself`,
  );
