/** What a query sees, and what happens to its scores before the softmax: shared by attention with and without a cache. */
import { SwitchyardError } from '../errors.js';
import { type Attrs, checkDType, checkInt, checkRank, checkSize, type OpInput, tensorInput } from '../op.js';
import { shapeText } from '../shape.js';
import type { Tensor } from '../tensor.js';
import { add, cast, clamp, div, mul, tanh } from './elementwise.js';
import { takeRows } from './indexing.js';
import { softmax } from './norm.js';
import { broadcastTo, concat, reshape, slice, transpose } from './shape.js';

export interface AttentionOptions {
  /** Factor on the scores. Default 1/√C. */
  scale?: number;
  /** Keys at later positions are hidden. Default true. */
  causal?: boolean;
  /** A query sees itself and the window - 1 positions before it; 0: all. Default 0. */
  window?: number;
  /** i32 [S]: keys at positions below prefix[s] are seen by all queries of sequence s. */
  prefix?: Tensor | null;
  /** Bound on scores: cap · tanh(score / cap), before anything is added (Gemma 2, arXiv 2408.00118); 0: none. Default 0. */
  softcap?: number;
  /** f32 [H]: slope[h] · (key position - query position) is added to scores (ALiBi, arXiv 2108.12409, section 3). */
  slopes?: Tensor | null;
  /** Bias on scores by distance (T5, arXiv 1910.10683, section 2.1). */
  positionBias?: PositionBias | null;
  /** f32 [H]: one more score for each query, without a value (gpt-oss; Xiao et al., arXiv 2309.17453). */
  sinks?: Tensor | null;
}

export interface PositionBias {
  /** f32 [H, R]: entry clamp(distance + left, 0, R - 1) is added for distance = key position - query position. */
  readonly table: Tensor;
  /** Entries of distances below 0. */
  readonly left: number;
}

const MOST = 2 ** 31 - 1;
/** So that a distance can be added in 32 bits. */
const MOST_LEFT = 2 ** 30;

export const SCORE_ATTRS = {
  scale: 'float',
  causal: 'int',
  window: 'int',
  softcap: 'float',
  left: 'int',
} as const;

export const scoreAttrs = (headDim: number, options: AttentionOptions): Attrs => ({
  scale: options.scale ?? 1 / Math.sqrt(headDim),
  causal: (options.causal ?? true) ? 1 : 0,
  window: options.window ?? 0,
  softcap: options.softcap ?? 0,
  left: options.positionBias?.left ?? 0,
});

export function checkScoreAttrs(name: string, { window, softcap, left }: Attrs): void {
  checkInt(name, 'window', window, 0, MOST);
  checkInt(name, 'entries of the position bias below 0', left, 0, MOST_LEFT);
  if (typeof softcap !== 'number' || !(softcap >= 0 && softcap < Infinity))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[${name}] got softcap ${String(softcap)}, expected a finite number, 0 (none) or more`,
    );
}

export const lowerScoreAttrs = (attrs: Attrs): { type: 'int' | 'float'; value: number }[] =>
  Object.entries(SCORE_ATTRS).map(([name, type]) => ({ type, value: attrs[name] as number }));

/** The optional operands, behind those of the op. */
export const scoreInputs = ({ prefix, slopes, sinks, positionBias }: AttentionOptions): OpInput[] => [
  prefix ?? null,
  slopes ?? null,
  sinks ?? null,
  positionBias?.table ?? null,
];

export function checkScoreInputs(
  name: string,
  [prefix, slopes, sinks, bias]: readonly OpInput[],
  heads: number,
  sequences: number,
): void {
  if (prefix)
    checkSize(name, 'prefix of length', checkIndex(name, 'prefix', prefix, 1).shape[0] as number, sequences);
  for (const [what, rank, input] of [
    ['slopes', 1, slopes],
    ['sinks', 1, sinks],
    ['position bias', 2, bias],
  ] as const) {
    if (!input) continue;
    const t = tensorInput(name, what, input);
    checkDType(name, what, t.dtype, 'f32');
    checkRank(name, what, t.shape, rank);
    checkSize(name, `heads of ${what}`, t.shape[0] as number, heads);
    if (rank === 2 && t.shape[1] === 0)
      throw new SwitchyardError(
        'ERR_SHAPE',
        `[${name}] got a position bias ${shapeText(t.shape)}, expected an entry or more for each head`,
      );
  }
}

export function checkIndex(name: string, what: string, input: OpInput | undefined, rank: number): Tensor {
  const t = tensorInput(name, what, input);
  checkDType(name, what, t.dtype, 'i32');
  checkRank(name, what, t.shape, rank);
  return t;
}

/** For twins: scores [H, N, M] after softcap, slopes and bias; distance i32 [N, M]. */
export function changedScores(
  scores: Tensor,
  distance: Tensor,
  { slopes, bias }: { slopes?: Tensor | null; bias?: Tensor | null },
  attrs: Attrs,
): Tensor {
  const [h, n, m] = scores.shape as [number, number, number];
  const cap = attrs.softcap as number;
  let s = cap > 0 ? mul(tanh(div(scores, cap)), cap) : scores;
  if (slopes) s = add(s, mul(reshape(slopes, [h, 1, 1]), reshape(cast(distance, 'f32'), [1, n, m])));
  if (bias) {
    const entry = clamp(add(distance, attrs.left as number), 0, (bias.shape[1] as number) - 1);
    const rows = takeRows(transpose(bias, [1, 0]), reshape(entry, [n * m])); // [N·M, H]
    s = add(s, reshape(transpose(rows, [1, 0]), [h, n, m]));
  }
  return s;
}

/** For twins: the softmax of scores [H, N, M] with one score more, which is cut off. */
export function softmaxWithSinks(scores: Tensor, sinks: Tensor): Tensor {
  const [h, n, m] = scores.shape as [number, number, number];
  const column = broadcastTo(reshape(sinks, [h, 1, 1]), [h, n, 1]);
  return slice(softmax(concat([scores, column], 2)), 2, 0, m);
}
