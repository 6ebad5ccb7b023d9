/**
 * Slopes of ALiBi (Press et al. 2022, section 3): the powers of 2^(-8/H) for H heads; where H is no power of two, those of the
 * next smaller one, and then every other one of the next larger.
 */
export function alibiSlopes(heads: number): Float32Array {
  const below = 2 ** Math.floor(Math.log2(heads));
  return Float32Array.from({ length: heads }, (_, h) =>
    h < below ? 2 ** ((-8 * (h + 1)) / below) : 2 ** ((-8 * (2 * (h - below) + 1)) / (2 * below)),
  );
}
