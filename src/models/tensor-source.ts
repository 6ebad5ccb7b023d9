import type { Tensor } from '../core/tensor.js';
import type { Weight } from '../core/weight.js';
import type { MatrixSource } from './family.js';

export interface LoadProgress {
  /** Bytes of the checkpoint read so far, and in all. */
  readonly loaded: number;
  readonly total: number;
  readonly tensor: string;
}

/** Where a decoder's parameters come from while it is put together: files that are packed, or a packed file. */
export interface TensorSource {
  /** What errors name. */
  readonly source: string;
  /** A matrix [rows, columns], or a stack of `experts` of them. */
  matrix(source: MatrixSource, rows: number, columns: number, experts?: number): Promise<Weight>;
  /** A vector [size] as f32. */
  vector(name: string, size: number): Promise<Tensor>;
  /** Tensors that no part of the model asked for. */
  unused(): string[];
  /** Reports the end, also where tensors were passed over. */
  finish(): void;
  /** Frees what was loaded, after a failure. */
  release(): void;
}
