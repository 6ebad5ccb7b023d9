import type { NativeWeight } from './addon.js';
import type { WeightFormat } from './format.js';

/**
 * A packed matrix [rows, columns], or a stack of `experts` of them: what linear layers, embeddings and experts multiply
 * with. It lives natively in kernel order and is never an ordinary tensor. Immutable; gradients do not flow into it.
 */
export class Weight {
  constructor(
    /** @internal */
    readonly native: NativeWeight,
    readonly format: WeightFormat,
    readonly experts: number,
    readonly rows: number,
    readonly columns: number,
    /** Bytes of packed memory; a repeated weight counts its shared bytes once. */
    readonly bytes: number,
  ) {}

  toString(): string {
    const stack = this.experts === 1 ? '' : `${this.experts} × `;
    return `Weight(${this.format} ${stack}[${this.rows}, ${this.columns}])`;
  }
}
