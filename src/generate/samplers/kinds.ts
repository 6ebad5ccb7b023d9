/** Kinds of records of a chain, in the order of native/cpu/samplers/kinds.h: the place is the code. */
const KINDS = [
  'greedy',
  'temperature',
  'topK',
  'topP',
  'minP',
  'typical',
  'tailFree',
  'epsilon',
  'eta',
  'mirostat',
  'xtc',
  'repetitionPenalty',
  'countPenalty',
  'dry',
  'noRepeatNgram',
  'tokenBias',
  'sequenceBias',
  'tokenMask',
  'forcedTokens',
] as const;

export type ChainKind = (typeof KINDS)[number];
export const CHAIN_KINDS = Object.fromEntries(KINDS.map((name, i) => [name, i])) as Readonly<
  Record<ChainKind, number>
>;
