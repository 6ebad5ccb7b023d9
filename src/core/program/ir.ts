/** Instructions between the graph and the binary program. */
import type { DType } from '../dtype.js';
import type { Attr, AttrType, Node } from '../op.js';
import type { Shape } from '../shape.js';
import type { Tensor } from '../tensor.js';
import type { Weight } from '../weight.js';

/** The order is part of the program format. */
export const STORAGE_KINDS = ['input', 'constant', 'arena', 'output', 'weight'] as const;
export type StorageKind = (typeof STORAGE_KINDS)[number];

/** A piece of memory; several values may be views of it. */
export interface Storage {
  kind: StorageKind;
  /** Counts within the kind; unused for the arena. */
  index: number;
  bytes: number;
  /** Arena only: bytes from its start. */
  offset: number;
  /** Arena only: the instructions that write it first and use it last. */
  first: number;
  last: number;
}

export interface Value {
  readonly storage: Storage;
  readonly dtype: DType;
  readonly shape: Shape;
}

export interface Instruction {
  readonly kernel: string;
  readonly inputs: readonly (Value | null)[];
  readonly outputs: readonly Value[];
  readonly attrs: readonly { readonly type: AttrType; readonly value: Attr }[];
  /** The graph's nodes that this instruction computes, for costs and debug output. */
  readonly nodes: readonly Node[];
}

export interface Lowering {
  readonly instructions: Instruction[];
  readonly inputs: readonly Tensor[];
  readonly constants: readonly Tensor[];
  readonly weights: readonly Weight[];
  readonly outputs: readonly Tensor[];
  arenaBytes: number;
}
