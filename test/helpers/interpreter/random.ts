/** Reference of the random numbers (Philox 4x32-10) and of sampling. */
import { sizeOf } from '../../../src/core/shape.js';
import type { Rule, Rules } from './rule.js';

/** Four words from a counter and a key, both of 64 bits (Salmon et al. 2011). */
export function philox(counter: bigint, key: bigint): number[] {
  const low = (x: bigint): bigint => x & 0xffffffffn;
  let [c0, c1, c2, c3] = [low(counter), low(counter >> 32n), 0n, 0n];
  let [k0, k1] = [low(key), low(key >> 32n)];
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0;
    const p1 = 0xcd9e8d57n * c2;
    [c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, low(p1), (p0 >> 32n) ^ c3 ^ k1, low(p0)];
    k0 = low(k0 + 0x9e3779b9n);
    k1 = low(k1 + 0xbb67ae85n);
  }
  return [c0, c1, c2, c3].map(Number);
}

const random =
  (finish: (a: number, b: number) => [number, number]): Rule =>
  ({ number, out }) => {
    const size = sizeOf(out(0).shape);
    const y = new Float64Array(Math.ceil(size / 4) * 4);
    for (let i = 0; i < size; i += 4) {
      const [a, b, c, d] = philox(BigInt(number('offset')) + BigInt(i / 4), BigInt(number('seed'))) as [
        number,
        number,
        number,
        number,
      ];
      y.set([...finish(a, b), ...finish(c, d)], i);
    }
    return [y.slice(0, size)];
  };
const unit = (word: number): number => (word >>> 8) * 2 ** -24;

export const RANDOM_RULES: Rules = {
  random_uniform: random((a, b) => [unit(a), unit(b)]),
  // Box and Muller 1958; the first uniform number is moved into (0, 1].
  random_normal: random((a, b) => {
    const radius = Math.sqrt(-2 * Math.log(unit(a) + 2 ** -24));
    const angle = 2 * Math.PI * unit(b);
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  }),
};
