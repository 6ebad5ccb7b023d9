/** What a model will take in memory, before it is loaded. */
import { type KvType, kvBytes, type WeightFormat } from '../core/format.js';

/** Outputs that lie side by side in one panel of a packed weight (native/formats/pack.h). */
const PANEL = 16;
const ALIGN = 64;
/**
 * Bits of a code, bytes of an entry of the scales, bytes of super-scales per 256 values, for the 16 rows of a panel;
 * values per entry of the scales (default 32).
 */
const BLOCK_LAYOUT: Readonly<Partial<Record<WeightFormat, readonly [number, number, number, number?]>>> = {
  q8_0: [8, 32, 0],
  q4_0: [4, 32, 0],
  q4_1: [4, 64, 0],
  q5_0: [5, 32, 0],
  q5_1: [5, 64, 0],
  q2_k: [2, 32, 64],
  q3_k: [3, 32, 32],
  q4_k: [4, 32, 64],
  q5_k: [5, 32, 64],
  q6_k: [6, 32, 32],
  iq4_nl: [4, 32, 0],
  iq4_xs: [4, 32, 32],
  mxfp4: [4, 16, 0],
  tq1_0: [2, 32, 0],
  tq2_0: [2, 32, 0],
  f8_e4m3: [8, 64, 0, 128],
  int8: [8, 64, 0, Infinity],
  int8_g64: [8, 32, 0, 64],
  int8_g128: [8, 32, 0, 128],
  int4_g64: [4, 32, 0, 64],
  int4_g128: [4, 32, 0, 128],
};

export interface MatrixSize {
  readonly format: WeightFormat;
  readonly rows: number;
  readonly columns: number;
  /** Matrices in the stack. Default 1. */
  readonly experts?: number;
}

const alignUp = (bytes: number): number => Math.ceil(bytes / ALIGN) * ALIGN;

/** Bytes of a packed weight. */
export function packedBytes({ format, rows, columns, experts = 1 }: MatrixSize): number {
  return experts * Math.ceil(rows / PANEL) * panelBytes(format, columns);
}

function panelBytes(format: WeightFormat, columns: number): number {
  const layout = BLOCK_LAYOUT[format];
  if (!layout) return format === 'f32' ? 4 * PANEL * columns : 4 * PANEL * Math.ceil(columns / 2);
  const [bits, scales, supers, group = 32] = layout;
  const chunks = Math.ceil(columns / 32);
  const codes = chunks * bits * 64;
  const entries = group === Infinity ? 1 : Math.ceil(columns / group);
  return alignUp(alignUp(codes + entries * scales) + Math.ceil(chunks / 8) * supers);
}

/** What one layer keeps of a token: heads, and the channels of a key and of a value. */
export interface CacheSizes {
  readonly heads: number;
  readonly key: number;
  readonly value: number;
  /** Values are the first channels of their keys and take no place. Default false. */
  readonly valuesInKeys?: boolean;
}

/** Bytes of keys and values of one token in all layers. */
export const cacheBytesPerToken = (layers: readonly CacheSizes[], type: KvType): number =>
  layers.reduce(
    (sum, { heads, key, value, valuesInKeys }) =>
      sum + heads * (kvBytes(type, key) + (valuesInKeys ? 0 : kvBytes(type, value))),
    0,
  );

export interface MemoryEstimate {
  /** Packed weights. */
  readonly weights: number;
  /** Keys and values of `contextLength` tokens, in whole blocks. */
  readonly cache: number;
  readonly total: number;
}

/** Weights and cache; a step's intermediates come on top, with little beside these. */
export function estimateMemory(
  matrices: Iterable<MatrixSize>,
  cache: readonly CacheSizes[],
  type: KvType,
  contextLength: number,
  blockTokens: number,
): MemoryEstimate {
  let weights = 0;
  for (const matrix of matrices) weights += packedBytes(matrix);
  const tokens = Math.ceil(contextLength / blockTokens) * blockTokens;
  const cacheBytes = tokens * cacheBytesPerToken(cache, type);
  return { weights, cache: cacheBytes, total: weights + cacheBytes };
}
