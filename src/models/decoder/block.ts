/** One layer: attention and feed-forward with their norms and residuals. */
import { mismatch, type SwitchyardError } from '../../core/errors.js';
import type { ComputeMode } from '../../core/format.js';
import { add, mul } from '../../core/ops/elementwise.js';
import { reshape } from '../../core/ops/shape.js';
import type { Tensor } from '../../core/tensor.js';
import { MoELayer } from '../../moe/layer.js';
import type { SparsePlan } from '../../moe/plan.js';
import type { Attend, Attention, RopeTable } from '../../nn/attention.js';
import type { AttendMemory, CrossAttention } from '../../nn/cross-attention.js';
import type { FeedForward } from '../../nn/feed-forward.js';
import type { Norm } from '../../nn/norm.js';
import type { BlockKind } from './config.js';

/** What all layers of a pass share. */
export interface PassContext {
  readonly table: RopeTable | null;
  readonly compute: ComputeMode;
  /** i32 [N] */
  readonly tokens: Tensor;
  /** Sparse layers add their plans, in order. */
  readonly routing: SparsePlan[];
  /** Groups of equally many tokens, each with the places of an expert for itself. Default: all tokens are one. */
  readonly groups?: number;
  /** bool [N]: tokens that choose experts. Default: all. */
  readonly routed?: Tensor | null;
}

export interface BlockParts {
  readonly attention: Pick<Attention, 'forward'>;
  /** In decoders of encoder-decoders, whose blocks are 'pre' or 'post'. */
  readonly crossAttention?: CrossAttention | null;
  readonly feedForward: FeedForward | MoELayer;
  /** What the kind of the block asks for; see BLOCK_KINDS. */
  readonly norms: {
    readonly attention: Norm;
    readonly feedForward?: Norm;
    /** Of attention over a memory. */
    readonly memory?: Norm;
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
    const { crossAttention, norms } = parts;
    if (crossAttention && !((kind === 'pre' || kind === 'post') && norms.memory))
      throw mismatch('ERR_UNSUPPORTED', 'block', `attention over a memory in a ${kind} block`, 'pre or post');
  }

  get feedForward(): FeedForward | MoELayer {
    return this.parts.feedForward;
  }

  /** x [N, D] → [N, D] */
  forward(x: Tensor, attend: Attend, context: PassContext, attendMemory?: AttendMemory): Tensor {
    const { attention, crossAttention, norms } = this.parts;
    const attended = (h: Tensor): Tensor => attention.forward(h, context.table, attend, context.compute);
    const fed = (h: Tensor): Tensor => this.#fed(h, context);
    const plus = (a: Tensor, b: Tensor): Tensor =>
      add(a, this.residualScale === 1 ? b : mul(b, this.residualScale));
    const remembered = (h: Tensor): Tensor =>
      (crossAttention as CrossAttention).forward(h, attendMemory as AttendMemory, context.compute);
    const second = norms.feedForward ?? norms.attention;
    switch (this.kind) {
      case 'pre': {
        let y = plus(x, attended(norms.attention.forward(x)));
        if (norms.memory) y = plus(y, remembered(norms.memory.forward(y)));
        return plus(y, fed(second.forward(y)));
      }
      case 'post': {
        let y = norms.attention.forward(plus(x, attended(x)));
        if (norms.memory) y = norms.memory.forward(plus(y, remembered(y)));
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

  #fed(h: Tensor, { compute, tokens, routing, groups = 1, routed = null }: PassContext): Tensor {
    const { feedForward } = this.parts;
    if (!(feedForward instanceof MoELayer)) return feedForward.forward(h, compute);
    const [n, d] = h.shape as [number, number];
    const grouped = groups === 1 ? h : reshape(h, [groups, n / groups, d]);
    const { output, plan } = feedForward.forward(grouped, { compute, tokenIds: tokens, routed });
    if (plan.kind !== 'sparse') throw notSparse(feedForward);
    routing.push(plan);
    return groups === 1 ? output : reshape(output, [n, d]);
  }
}

const notSparse = ({ gating }: MoELayer): SwitchyardError =>
  mismatch('ERR_UNSUPPORTED', 'block', `gating '${gating.name}'`, 'one that sends each token to experts');
