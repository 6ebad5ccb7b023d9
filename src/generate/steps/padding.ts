/** Sizes that steps are padded to. */

/** Tokens of a step: few programs, little waste. */
export function paddedTokens(n: number): number {
  if (n <= 8) return n;
  const step = n <= 64 ? 8 : n <= 256 ? 32 : 64;
  return Math.ceil(n / step) * step;
}

/** Sequences, and choices, of a step. */
export function paddedRows(n: number): number {
  if (n <= 4) return n;
  const step = 2 ** Math.floor(Math.log2(n - 1) - 1);
  return Math.ceil(n / step) * step;
}
