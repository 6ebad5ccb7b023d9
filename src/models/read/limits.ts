/** Limits of hostile or broken configs: far above any published model, far below what would exhaust memory. */
export const LIMITS = {
  layers: 1024,
  heads: 4096,
  experts: 65536,
  width: 1 << 20,
  vocabulary: 1 << 24,
  length: 2 ** 31 - 1,
} as const;
export type Limit = keyof typeof LIMITS;
