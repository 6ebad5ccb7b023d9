/** Attention over one small vector a token, from which all heads have their keys and values. */
import type { ComputeMode } from '../core/format.js';
import { rope } from '../core/ops/attention.js';
import { mul } from '../core/ops/elementwise.js';
import { groupedMatmul } from '../core/ops/grouped.js';
import { groupedLinear } from '../core/ops/linear.js';
import { concat, iota, reshape, slice, transpose } from '../core/ops/shape.js';
import type { Tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import type { Attend, AttendOptions, RopeTable } from './attention.js';
import type { Linear, Matrix } from './linear.js';
import type { Norm } from './norm.js';

export interface LatentAttentionConfig {
  readonly nHeads: number;
  /** Sizes of a query that do not turn, and those that do. */
  readonly plainDim: number;
  readonly rotaryDim: number;
  /** Width of the vector that keys and values come from. */
  readonly rank: number;
  readonly valueDim: number;
  readonly ropeInterleaved: boolean;
  readonly attend: AttendOptions;
}

export interface LatentAttentionParts {
  /** The way down to the queries' rank and its norm; null where queries have none. */
  readonly queryDown: Linear | null;
  readonly queryNorm: Norm | null;
  /** [H · (plain + rotary), query rank or D] */
  readonly queryUp: Linear;
  /** [rank + rotary, D]: the vector of keys and values, and the one rotary key of all heads. */
  readonly down: Linear;
  readonly norm: Norm;
  /** H × [rank, plain]: W_UK of each head, transposed. */
  readonly keyUp: Matrix;
  /** H × [value, rank]: W_UV. */
  readonly valueUp: Matrix;
  readonly output: Linear;
}

/**
 * Multi-head latent attention (DeepSeek-AI 2024, DeepSeek-V2, section 2.1, arXiv 2405.04434). W_UK is absorbed into the queries and W_UV
 * applied behind the mixing, so that keys and values stay the small vector: one key [rank + rotary] and one value [rank] a token.
 */
export class LatentAttention {
  constructor(
    readonly config: LatentAttentionConfig,
    readonly parts: LatentAttentionParts,
  ) {}

  /** x [N, D] → [N, D] */
  forward(x: Tensor, table: RopeTable | null, attend: Attend, compute: ComputeMode): Tensor {
    const { nHeads, plainDim, rotaryDim, rank, valueDim, ropeInterleaved } = this.config;
    const { queryDown, queryNorm, queryUp, down, norm, keyUp, valueUp, output } = this.parts;
    const n = x.shape[0] as number;
    const turn = (y: Tensor): Tensor => (table ? rope(y, table, { interleaved: ropeInterleaved }) : y);

    const low = queryDown ? queryDown.forward(x, compute) : x;
    const wide = queryUp.forward(queryNorm ? queryNorm.forward(low) : low, compute);
    const queries = reshape(wide, [n, nHeads, plainDim + rotaryDim]);
    const absorbed = perHead(slice(queries, 2, 0, plainDim), keyUp, compute); // [N, H, rank]
    const q = concat([absorbed, turn(slice(queries, 2, plainDim))], 2); // [N, H, rank + rotary]

    const joint = down.forward(x, compute); // [N, rank + rotary]
    const latent = reshape(norm.forward(slice(joint, 1, 0, rank)), [n, 1, rank]);
    const k = concat([latent, turn(reshape(slice(joint, 1, rank), [n, 1, rotaryDim]))], 2);

    const mixed = attend(q, k, latent, this.config.attend); // [N, H, rank]
    return output.forward(reshape(perHead(mixed, valueUp, compute), [n, nHeads * valueDim]), compute);
  }
}

/** x [N, H, K], each head by its own matrix of H × [M, K] → [N, H, M]. */
function perHead(x: Tensor, weights: Matrix, compute: ComputeMode): Tensor {
  const [n, h, k] = x.shape as [number, number, number];
  const rows = reshape(transpose(x, [1, 0, 2]), [h * n, k]);
  const offsets = mul(iota([h + 1]), n);
  const y =
    weights instanceof Weight
      ? groupedLinear(rows, offsets, weights, compute)
      : groupedMatmul(rows, weights, offsets);
  return transpose(reshape(y, [h, n, y.shape[1] as number]), [1, 0, 2]);
}
