/** One layer of a decoder: attention and feed-forward with their norms and residuals. */
import { SwitchyardError } from '../core/errors.js';
import type { ComputeMode } from '../core/format.js';
import { add, mul } from '../core/ops/elementwise.js';
import type { Tensor } from '../core/tensor.js';
import { MoELayer } from '../moe/layer.js';
import type { SparsePlan } from '../moe/plan.js';
import type { Attend, Attention, RopeTable } from '../nn/attention.js';
import type { FeedForward } from '../nn/feed-forward.js';
import type { Norm } from '../nn/norm.js';
import type { BlockKind } from './config.js';

/** What all layers of a pass share. */
export interface PassContext {
  readonly table: RopeTable | null;
  readonly compute: ComputeMode;
  /** i32 [N] */
  readonly tokens: Tensor;
  /** Sparse layers add their plans, in order. */
  readonly routing: SparsePlan[];
}

export interface BlockParts {
  readonly attention: Pick<Attention, 'forward'>;
  readonly feedForward: FeedForward | MoELayer;
  /** What the kind of the block asks for; see BLOCK_KINDS. */
  readonly norms: {
    readonly attention: Norm;
    readonly feedForward?: Norm;
    /** Behind attention and feed-forward: of sandwich blocks. */
    readonly attentionPost?: Norm;
    readonly feedForwardPost?: Norm;
  };
}

export class Block {
  constructor(
    readonly kind: BlockKind,
    readonly residualScale: number,
    readonly parts: BlockParts,
  ) {
    const { feedForward } = parts;
    if (feedForward instanceof MoELayer && feedForward.gating.looksAhead) throw notCausal(feedForward);
  }

  get feedForward(): FeedForward | MoELayer {
    return this.parts.feedForward;
  }

  /** x [N, D] → [N, D] */
  forward(x: Tensor, attend: Attend, context: PassContext): Tensor {
    const { attention, norms } = this.parts;
    const attended = (h: Tensor): Tensor => attention.forward(h, context.table, attend, context.compute);
    const fed = (h: Tensor): Tensor => this.#fed(h, context);
    const plus = (a: Tensor, b: Tensor): Tensor =>
      add(a, this.residualScale === 1 ? b : mul(b, this.residualScale));
    const second = norms.feedForward ?? norms.attention;
    switch (this.kind) {
      case 'pre': {
        const y = plus(x, attended(norms.attention.forward(x)));
        return plus(y, fed(second.forward(y)));
      }
      case 'post': {
        const y = norms.attention.forward(plus(x, attended(x)));
        return second.forward(plus(y, fed(y)));
      }
      case 'sandwich': {
        const after = (norm: Norm | undefined, h: Tensor): Tensor => (norm ? norm.forward(h) : h);
        const y = plus(x, after(norms.attentionPost, attended(norms.attention.forward(x))));
        return plus(y, after(norms.feedForwardPost, fed(second.forward(y))));
      }
      case 'parallel':
      case 'parallel-two-norms': {
        const h = norms.attention.forward(x);
        const both = add(attended(h), fed(second === norms.attention ? h : second.forward(x)));
        return plus(x, both);
      }
    }
  }

  #fed(h: Tensor, { compute, tokens, routing }: PassContext): Tensor {
    const { feedForward } = this.parts;
    if (!(feedForward instanceof MoELayer)) return feedForward.forward(h, compute);
    const { output, plan } = feedForward.forward(h, { compute, tokenIds: tokens });
    if (plan.kind !== 'sparse') throw notCausal(feedForward);
    routing.push(plan);
    return output;
  }
}

const notCausal = ({ gating }: MoELayer): SwitchyardError =>
  new SwitchyardError(
    'ERR_UNSUPPORTED',
    `[decoder] got gating '${gating.name}', which looks at later tokens, expected one that routes each token by itself`,
  );
