/** Every parameter of a loaded decoder under our own names: what packed files and reports call them. */
import type { Tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import type { Role } from '../inspect/parameters.js';
import type { Matrix } from '../nn/linear.js';
import { decoderParts } from './decoder/build.js';
import type { Decoder } from './decoder/decoder.js';
import type { ParameterMap } from './decoder/parameters.js';

export interface MatrixPart {
  readonly name: string;
  readonly role: Role;
  readonly matrix: Matrix;
}
export interface VectorPart {
  readonly name: string;
  readonly role: Role;
  /** [size], or [experts, size] */
  readonly vector: Tensor;
}

/** Matrices and vectors in the order of a forward pass; a tied head is the embedding and stands once. */
export class PartList {
  readonly matrices: MatrixPart[] = [];
  readonly vectors: VectorPart[] = [];

  constructor({ config, parameters }: Decoder) {
    for (const { name, role, kind } of decoderParts(config)) {
      const parameter = parameters.get(name) as Weight | Tensor;
      if (kind === 'matrix') this.matrices.push({ name, role, matrix: parameter });
      else this.vectors.push({ name, role, vector: parameter as Tensor });
    }
  }
}

/** All packed weights, each once. */
export const weightsOf = ({ parameters }: { readonly parameters: ParameterMap }): Weight[] => [
  ...new Set([...parameters.values()].filter((p): p is Weight => p instanceof Weight)),
];
