/** Reference of every elementwise op, one number at a time. */
import { DTYPES, type DType, isFloat } from '../../../src/core/dtype.js';
import type { Attrs } from '../../../src/core/op.js';

type Scalar = (...x: number[]) => number;
/** One function for floats, one for whole numbers where the op takes both. */
interface Reference {
  readonly float?: Scalar;
  readonly int?: Scalar;
}

/** erf to 1e-16: its series for small |x|, the continued fraction of erfc beyond (Abramowitz & Stegun 7.1.6, 7.1.14). */
export function erf(x: number): number {
  if (Number.isNaN(x)) return x;
  const a = Math.abs(x);
  if (a > 6) return Math.sign(x);
  if (a < 2.5) {
    let term = a;
    let sum = a;
    for (let n = 1; n < 200 && term > sum * 1e-18; n++) {
      term *= (2 * a * a) / (2 * n + 1);
      sum += term;
    }
    return Math.sign(x) * (2 / Math.sqrt(Math.PI)) * Math.exp(-a * a) * sum;
  }
  let fraction = 0;
  for (let n = 120; n > 0; n--) fraction = n / 2 / (a + fraction);
  return Math.sign(x) * (1 - Math.exp(-a * a) / Math.sqrt(Math.PI) / (a + fraction));
}

const nanOr =
  (pick: Scalar): Scalar =>
  (a, b) =>
    Number.isNaN(a) || Number.isNaN(b) ? NaN : pick(a, b);
const compare = (f: (a: number, b: number) => boolean): Reference => {
  const g: Scalar = (a, b) => (f(a, b) ? 1 : 0);
  return { float: g, int: g };
};
/** Out of range and NaN: the lowest i32, on every tier. */
export const truncate: Scalar = (x) => (x >= -2147483648 && x < 2147483648 ? Math.trunc(x) : -2147483648);

export const ELEMENTWISE: Readonly<Record<string, Reference>> = {
  add: { float: (a, b) => a + b, int: (a, b) => a + b },
  sub: { float: (a, b) => a - b, int: (a, b) => a - b },
  mul: { float: (a, b) => a * b, int: Math.imul },
  div: { float: (a, b) => a / b, int: (a, b) => (b === 0 ? 0 : Math.trunc(a / b)) },
  mod: { int: (a, b) => (b === 0 ? 0 : a % b) },
  pow: { float: (a, b) => a ** b },
  maximum: { float: nanOr(Math.max), int: Math.max },
  minimum: { float: nanOr(Math.min), int: Math.min },
  less: compare((a, b) => a < b),
  less_equal: compare((a, b) => a <= b),
  equal: compare((a, b) => a === b),
  not_equal: compare((a, b) => a !== b),
  and: { int: (a, b) => a & b },
  or: { int: (a, b) => a | b },
  xor: { int: (a, b) => a ^ b },
  neg: { float: (x) => -x },
  abs: { float: Math.abs },
  sign: { float: Math.sign },
  exp: { float: Math.exp },
  log: { float: Math.log },
  log1p: { float: Math.log1p },
  sqrt: { float: Math.sqrt },
  rsqrt: { float: (x) => 1 / Math.sqrt(x) },
  reciprocal: { float: (x) => 1 / x },
  tanh: { float: Math.tanh },
  erf: { float: erf },
  sigmoid: { float: (x) => (x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x))) },
  sin: { float: Math.sin },
  cos: { float: Math.cos },
  floor: { float: Math.floor },
};

/** The function of an elementwise op for operands of the given dtypes, or undefined for other ops. */
export function scalarFunction(op: string, dtypes: readonly DType[], attrs: Attrs): Scalar | undefined {
  const first = dtypes[0] as DType;
  if (op === 'where') return (c, a, b) => (c ? a : b) as number;
  if (op === 'not') return first === 'bool' ? (x) => (x ? 0 : 1) : (x) => ~x;
  if (op === 'cast') {
    const to = DTYPES[attrs.dtype as number] as DType;
    if (to === 'bool') return (x) => (x !== 0 ? 1 : 0);
    return isFloat(first) && !isFloat(to) ? truncate : (x) => x;
  }
  const reference = ELEMENTWISE[op];
  return reference && (isFloat(first) ? reference.float : reference.int);
}
