// Chains of samplers, and what is told of their choices.
import { ChainBatch, wordOf } from '../../../src/generate/samplers/chain-batch.js';
import type { ChainKind } from '../../../src/generate/samplers/kinds.js';
import { f32, type InputSpec, i32, literal, type OpCase } from '../../helpers/op-case.js';
import { into } from './table.js';

export const cases: OpCase[] = [];
const one = into(cases);
const { POSITIVE_INFINITY: inf } = Number;

/** Chains by row, in turn, each over a history of its own. */
type Chain = (batch: ChainBatch) => void;
const chained = (
  name: string,
  rows: number,
  v: number,
  chains: readonly Chain[],
  logits?: InputSpec,
): void => {
  const batch = new ChainBatch();
  for (let r = 0; r < rows; r++) {
    const history = Int32Array.from({ length: r % 11 }, (_, i) => (i * i * 5 + (r % 5)) % Math.min(v, 6));
    batch.row({ history, seed: r * 7919 + 1, step: r }, chains[r % chains.length] as Chain);
  }
  const inputs = [
    logits ?? f32([rows, v], -4, 4),
    literal('i32', [...batch.rows], [rows, 6]),
    literal('i32', [...batch.data]),
  ];
  one('sample', name, inputs);
  one('process_logits', name, inputs);
};
const number =
  (kind: ChainKind, ...values: number[]): Chain =>
  (b) =>
    values.reduce((record, value) => record.number(value), b.begin(kind)).end();
const whole =
  (kind: ChainKind, value: number): Chain =>
  (b) =>
    b.begin(kind).int(value).end();
const listed =
  (kind: ChainKind, words: readonly number[]): Chain =>
  (b) =>
    b.begin(kind).list(words).end();
const all =
  (...parts: Chain[]): Chain =>
  (b) => {
    for (const part of parts) part(b);
  };
const greedy: Chain = (b) => b.begin('greedy').end();
const heat = (t: number): Chain => number('temperature', t);
const repeats: Chain = (b) => b.begin('repetitionPenalty').number(1.7).int(0).end();
const counted: Chain = (b) => b.begin('countPenalty').number(0.3).number(0.9).int(1).end();
const dry: Chain = (b) => b.begin('dry').number(0.8).number(1.75).int(1).int(0).list([4]).end();
const xtc: Chain = (b) => b.begin('xtc').number(0.05).number(0.5).int(1).end();
const bans = listed('tokenBias', [2, wordOf(-Infinity), 3, wordOf(1.5), 70000, wordOf(1)]);
const sequenced = listed('sequenceBias', [
  1,
  wordOf(2),
  1,
  2,
  wordOf(-Infinity),
  5,
  0,
  3,
  wordOf(3),
  1,
  0,
  4,
]);
const few = listed('tokenMask', [0b10110]);
const most = listed('tokenMask', [~0b1001, -1, -1]);
const filters: Readonly<Record<string, Chain>> = {
  'top k': whole('topK', 5),
  'top p': number('topP', 0.7),
  'top p of one': number('topP', 0),
  'min p': number('minP', 0.1),
  typical: number('typical', 0.6),
  'tail free': number('tailFree', 0.8),
  epsilon: number('epsilon', 0.03),
  eta: number('eta', 0.05),
  mirostat: number('mirostat', 4),
  xtc,
  'few allowed': few,
  'most allowed': most,
};
const edits: Readonly<Record<string, Chain>> = {
  'repetition penalty': repeats,
  counts: counted,
  dry,
  'n-grams': whole('noRepeatNgram', 2),
  'n-grams of one': whole('noRepeatNgram', 1),
  bias: bans,
  sequences: sequenced,
  forced: listed('forcedTokens', [1, 4]),
};
chained('no chain', 60, 9, [() => undefined]);
chained('no rows', 0, 9, [greedy]);
chained('one token', 3, 1, [heat(0.5), greedy, number('topP', 0.5)]);
chained('greedy', 4, 33, [greedy]);
chained('greedy with a penalty', 12, 12, [all(repeats, greedy)]);
chained('hot', 20, 50, [heat(2.5)]);
for (const [name, filter] of Object.entries(filters)) {
  chained(name, 40, 50, [
    filter,
    all(heat(0.8), filter),
    all(filter, heat(1.4)),
    all(filter, filters['top k'] as Chain),
  ]);
  chained(`${name}, large vocabulary`, 4, 20011, [filter, all(heat(0.3), filter)]);
}
for (const [name, edit] of Object.entries(edits)) {
  chained(name, 44, 17, [
    edit,
    all(heat(0.5), edit),
    all(edit, whole('topK', 3)),
    all(whole('topK', 8), edit),
  ]);
}
chained('every chain in one batch', 64, 40, [...Object.values(filters), ...Object.values(edits), greedy]);
chained('everything', 60, 31, [
  all(repeats, counted, dry, bans, heat(0.7), whole('topK', 12), number('topP', 0.9), number('minP', 0.05)),
  all(whole('topK', 12), number('topP', 0.9), heat(0.7), xtc),
  all(heat(1.3), heat(0.7), number('typical', 0.8), number('eta', 0.01)),
]);
chained('top k beyond the maxima of blocks', 3, 5003, [whole('topK', 700)]);
chained('flat, large vocabulary', 2, 40009, [number('topP', 0.9)], f32([2, 40009], -0.01, 0.01));
chained('ties', 1, 4, [greedy], literal('f32', [1, 3, 3, 0], [1, 4]));
chained('nothing left', 2, 3, [listed('tokenMask', [0])], f32([2, 3]));
chained(
  'removed before',
  3,
  6,
  [number('topP', 0.9), number('typical', 0.7), number('eta', 0.01)],
  literal('f32', [-inf, 1, -inf, 2, 0, -inf, -inf, -inf, -inf, -inf, 3, -inf, 1, 1, 1, 1, 1, -inf], [3, 6]),
);

const chosen = (
  name: string,
  rows: number,
  v: number,
  n: number,
  logits: InputSpec = f32([rows, v], -4, 4),
): void => one('token_logprobs', name, [logits, i32([rows], -1, v)], { n });
chosen('none likelier', 5, 7, 0);
chosen('top 3', 9, 33, 3);
chosen('all', 2, 12, 12);
chosen('many', 3, 1003, 300);
chosen('no rows', 0, 5, 2);
chosen('ties', 3, 4, 2, literal('f32', [1, 3, 3, 0, 2, 2, 2, 2, 0, 0, -inf, 1], [3, 4]));
