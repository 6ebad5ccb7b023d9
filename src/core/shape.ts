import { SwitchyardError } from './errors.js';

export type Shape = readonly number[];

/** The highest rank of a tensor (kMaxRank in native/runtime/types.h). */
export const MAX_RANK = 8;

export function sizeOf(shape: Shape): number {
  let n = 1;
  for (let i = 0; i < shape.length; i++) n *= shape[i] as number;
  return n;
}

export const shapeText = (shape: Shape): string => `[${shape.join(', ')}]`;

export function sameShape(a: Shape, b: Shape): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Row-major strides in elements. */
export function stridesOf(shape: Shape): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    strides[i] = step;
    step *= shape[i] as number;
  }
  return strides;
}

export function checkShape(where: string, shape: Shape): void {
  const ok =
    shape.length <= MAX_RANK &&
    shape.every((d) => Number.isSafeInteger(d) && d >= 0) &&
    Number.isSafeInteger(sizeOf(shape) * 4);
  if (!ok) {
    throw new SwitchyardError(
      'ERR_SHAPE',
      `[${where}] got shape ${shapeText(shape)}, expected at most ${MAX_RANK} whole sizes ≥ 0`,
    );
  }
}

/** Turns an axis that may count from the end into one that counts from the start. */
export function checkAxis(where: string, axis: number, rank: number): number {
  const a = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || a < 0 || a >= rank) {
    throw new SwitchyardError('ERR_SHAPE', `[${where}] got axis ${axis}, expected ${-rank} to ${rank - 1}`);
  }
  return a;
}

/** The shape that two operands broadcast to (NumPy's rule). */
export function broadcastShapes(where: string, a: Shape, b: Shape): Shape {
  if (sameShape(a, b)) return a;
  const rank = Math.max(a.length, b.length);
  const out = new Array<number>(rank);
  for (let i = 0; i < rank; i++) {
    const x = a[a.length - rank + i] ?? 1;
    const y = b[b.length - rank + i] ?? 1;
    if (x !== y && x !== 1 && y !== 1) {
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[${where}] got shapes ${shapeText(a)} and ${shapeText(b)}, expected shapes that broadcast together`,
        { hint: 'sizes must be equal, or one of them 1, counted from the last axis' },
      );
    }
    out[i] = x === 1 ? y : x;
  }
  return out;
}

/** Splits a shape around an axis: [outer, n, inner]. */
export function aroundAxis(shape: Shape, axis: number): [number, number, number] {
  return [sizeOf(shape.slice(0, axis)), shape[axis] as number, sizeOf(shape.slice(axis + 1))];
}
