/** How far a native result may be from the float64 reference: one table. */
import type { DType } from '../../src/core/dtype.js';
import type { Value } from './interpreter/value.js';

export interface Tolerance {
  /** Of the expected number. */
  readonly relative: number;
  /** Of the largest finite expected number of the tensor: sums lose there what cancels. */
  readonly ofLargest: number;
}

/** f16 and bf16: one unit in the last place, for a value that rounds to the other side. Whole numbers are exact. */
export const TOLERANCE: Readonly<Record<DType, Tolerance>> = {
  f32: { relative: 2e-6, ofLargest: 2e-6 },
  f16: { relative: 2 ** -10, ofLargest: 1e-6 },
  bf16: { relative: 2 ** -7, ofLargest: 1e-6 },
  i32: { relative: 0, ofLargest: 0 },
  u32: { relative: 0, ofLargest: 0 },
  u8: { relative: 0, ofLargest: 0 },
  bool: { relative: 0, ofLargest: 0 },
};
/** Linear layers that round activations: bf16 keeps 8 bits, int8 one scale for 32 values. */
export const COMPUTE_TOLERANCE = {
  bf16: { relative: 0, ofLargest: 1e-2 },
  int8: { relative: 0, ofLargest: 2e-2 },
} as const satisfies Record<string, Tolerance>;
/** Graphs of many ops, forward or backward. */
export const GRAPH_TOLERANCE: Tolerance = { relative: 2e-5, ofLargest: 2e-5 };
/** Gradients by central differences in float64. */
export const DIFFERENCE_TOLERANCE: Tolerance = { relative: 1e-6, ofLargest: 1e-6 };

/** The first element outside the tolerance, as text; null if all are inside. NaN equals NaN, an infinity itself. */
export function mismatch(
  got: Value,
  expected: Value,
  tolerance: Tolerance = TOLERANCE[expected.dtype],
): string | null {
  if (got.dtype !== expected.dtype || got.shape.join() !== expected.shape.join())
    return `got ${got.dtype} [${got.shape}], expected ${expected.dtype} [${expected.shape}]`;
  if (got.data.length !== expected.data.length)
    return `got ${got.data.length} elements, expected ${expected.data.length}`;
  const largest = expected.data.reduce((m, x) => (Number.isFinite(x) ? Math.max(m, Math.abs(x)) : m), 0);
  const slack = tolerance.ofLargest * largest;
  for (let i = 0; i < expected.data.length; i++) {
    const a = got.data[i] as number;
    const b =
      expected.dtype === 'f32' ? Math.fround(expected.data[i] as number) : (expected.data[i] as number);
    if (Object.is(a, b) || a === b) continue;
    if (Math.abs(a - b) <= tolerance.relative * Math.abs(b) + slack) continue;
    return `element ${i}: got ${a}, expected ${b}`;
  }
  return null;
}
