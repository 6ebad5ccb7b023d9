import type { Tensor } from '../../core/tensor.js';
import type { Weight } from '../../core/weight.js';
import type { Part } from '../decoder/parameters.js';

export interface LoadProgress {
  /** Bytes of the checkpoint read so far, and in all. */
  readonly loaded: number;
  readonly total: number;
  readonly tensor: string;
}

/** Where the parameters of a model come from: files that are packed, or a packed file. */
export interface TensorSource {
  /** What errors name. */
  readonly source: string;
  matrix(part: Part): Promise<Weight>;
  vector(part: Part): Promise<Tensor>;
  /** Tensors that no part of the model asked for. */
  unused(): string[];
  /** Reports the end, also where tensors were passed over. */
  finish(): void;
  /** Frees what was loaded, after a failure. */
  release(): void;
}
