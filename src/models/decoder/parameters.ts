/**
 * The parameters of a model under our own names. A model's modules are put together from a `ParameterSource`; the same code
 * that builds a model thereby lists its parts, which files, reports and memory estimates go by.
 */
import type { NativeWeight } from '../../core/addon.js';
import { SwitchyardError } from '../../core/errors.js';
import { sameShape, shapeText } from '../../core/shape.js';
import { Tensor } from '../../core/tensor.js';
import { Weight } from '../../core/weight.js';
import type { Role } from '../../inspect/parameters.js';
import type { SplitExperts } from '../../moe/split-experts.js';
import { Linear, type Matrix } from '../../nn/linear.js';
import { LayerNorm, type Norm, RmsNorm } from '../../nn/norm.js';
import type { NormConfig } from './config.js';

/** One parameter of a model. */
export interface Part {
  /** For example layers.3.attention.q.weight; a bias has the name of its matrix with .bias for .weight. */
  readonly name: string;
  readonly role: Role;
  /** Matrices are packed as weights, vectors stay tensors of f32. */
  readonly kind: 'matrix' | 'vector';
  /** [rows, columns] or a stack [experts, rows, columns]; of vectors [size] or [experts, size]. */
  readonly shape: readonly number[];
}

export type ParameterMap = ReadonlyMap<string, Weight | Tensor>;

/** Hands out parameters while modules are put together. */
export interface ParameterSource {
  matrix(part: Part): Matrix;
  vector(part: Part): Tensor;
  /** Places on a GPU of the experts whose names begin with the prefix; absent or null: they have none. */
  split?(prefix: string): SplitExperts | null;
}

/** A source whose names begin with a prefix, and the modules that most models are made of. */
export class Scope {
  constructor(
    readonly source: ParameterSource,
    readonly prefix = '',
  ) {}

  at(name: string): Scope {
    return new Scope(this.source, `${this.prefix}${name}.`);
  }

  matrix(name: string, role: Role, ...shape: number[]): Matrix {
    return this.source.matrix({ name: `${this.prefix}${name}.weight`, role, kind: 'matrix', shape });
  }

  /** `name` with its ending. */
  vector(name: string, role: Role, ...shape: number[]): Tensor {
    return this.source.vector({ name: `${this.prefix}${name}`, role, kind: 'vector', shape });
  }

  /** y = x Wᵀ + b with W [rows, columns]. */
  linear(name: string, role: Role, [rows, columns]: readonly [number, number], bias = false): Linear {
    const weight = this.matrix(name, role, rows, columns);
    return new Linear(weight, bias ? this.vector(`${name}.bias`, role, rows) : null);
  }

  /** Places on a GPU of the experts of this scope. */
  split(): SplitExperts | null {
    return this.source.split?.(this.prefix) ?? null;
  }

  norm(name: string, size: number, { kind, eps, weightOffset, bias }: NormConfig): Norm {
    const weight = this.vector(`${name}.weight`, 'norm', size);
    if (kind === 'rms') return new RmsNorm(weight, eps, weightOffset);
    return new LayerNorm(weight, bias ? this.vector(`${name}.bias`, 'norm', size) : null, eps);
  }
}

/** Every part that `build` asks for, in its order. Nothing is allocated. */
export function listParts(build: (source: ParameterSource) => unknown): Part[] {
  const parts: Part[] = [];
  build({
    matrix(part) {
      parts.push(part);
      const [columns = 1, rows = 1, experts = 1] = [...part.shape].reverse();
      return new Weight(NO_BYTES, 'f32', experts, rows, columns, 0);
    },
    vector(part) {
      parts.push(part);
      return Tensor.placeholder('f32', part.shape);
    },
  });
  return parts;
}
/** Stands for the bytes of a weight that only has sizes: no program takes it. */
const NO_BYTES = Object.freeze({}) as NativeWeight;

/** Places of experts on a GPU, by the beginning of their names: layers.3.experts. */
export type SplitMap = ReadonlyMap<string, SplitExperts>;

/** The parameters of a map. @throws SwitchyardError ERR_FORMAT for one that is missing, ERR_SHAPE for other sizes */
export function sourceOf(parameters: ParameterMap, splits?: SplitMap): ParameterSource {
  const take = ({ name }: Part): Weight | Tensor => {
    const found = parameters.get(name);
    if (found) return found;
    throw new SwitchyardError('ERR_FORMAT', `[${name}] got no such parameter, expected it to be there`);
  };
  const check = ({ name, shape }: Part, found: readonly number[]): void => {
    if (sameShape(found, shape)) return;
    throw new SwitchyardError('ERR_SHAPE', `[${name}] got ${shapeText(found)}, expected ${shapeText(shape)}`);
  };
  return {
    matrix(part) {
      const matrix = take(part);
      check(part, matrix instanceof Weight ? shapeOf(matrix, part.shape.length) : matrix.shape);
      return matrix;
    },
    vector(part) {
      const vector = take(part);
      if (!(vector instanceof Tensor))
        throw new SwitchyardError('ERR_FORMAT', `[${part.name}] got ${vector}, expected a vector`);
      check(part, vector.shape);
      return vector;
    },
    split: (prefix) => splits?.get(prefix) ?? null,
  };
}

const shapeOf = ({ experts, rows, columns }: Weight, rank: number): readonly number[] =>
  rank === 2 && experts === 1 ? [rows, columns] : [experts, rows, columns];
