/** Reference of `sample`, `process_logits` and `token_logprobs`, in float64. */
import { CHAIN_KINDS } from '../../../src/generate/samplers/kinds.js';
import { inverseCdf, probabilities, type ReferenceRow, reference, uniform } from '../reference-samplers.js';
import type { Rules, View } from './rule.js';

const KIND_NAMES = Object.keys(CHAIN_KINDS) as (keyof typeof CHAIN_KINDS)[];

/** Reads the words of a chain as native/cpu/samplers/record.h says. */
class Words {
  #at = 0;
  readonly #words: Int32Array;
  constructor(words: Int32Array) {
    this.#words = words;
  }
  get done(): boolean {
    return this.#at === this.#words.length;
  }
  int(): number {
    return this.#words[this.#at++] as number;
  }
  number(): number {
    const value = new Float64Array(Int32Array.of(this.int(), this.int()).buffer)[0];
    return value as number;
  }
  float(): number {
    return new Float32Array(Int32Array.of(this.int()).buffer)[0] as number;
  }
  list(): Int32Array {
    const length = this.int();
    this.#at += length;
    return this.#words.subarray(this.#at - length, this.#at);
  }
}

function apply(kind: keyof typeof CHAIN_KINDS, row: ReferenceRow, r: Words): number[] {
  switch (kind) {
    case 'greedy':
      return reference.greedy(row);
    case 'topK':
    case 'noRepeatNgram':
      return reference[kind](row, r.int());
    case 'temperature':
    case 'topP':
    case 'minP':
    case 'typical':
    case 'tailFree':
    case 'epsilon':
    case 'eta':
    case 'mirostat':
      return reference[kind](row, r.number());
    case 'xtc':
      return reference.xtc(row, r.number(), r.number(), r.int());
    case 'repetitionPenalty':
      return reference.repetitionPenalty(row, r.number(), r.int());
    case 'countPenalty':
      return reference.countPenalty(row, r.number(), r.number(), r.int());
    case 'dry':
      return reference.dry(row, r.number(), r.number(), r.int(), r.int(), [...r.list()]);
    case 'tokenBias': {
      const pairs = new Words(r.list());
      const all: [number, number][] = [];
      while (!pairs.done) all.push([pairs.int(), pairs.float()]);
      return reference.tokenBias(row, all);
    }
    case 'sequenceBias': {
      const sequences = new Words(r.list());
      const all: [number[], number][] = [];
      while (!sequences.done) {
        const length = sequences.int();
        const bias = sequences.float();
        all.push([Array.from({ length }, () => sequences.int()), bias]);
      }
      return reference.sequenceBias(row, all);
    }
    case 'tokenMask': {
      const bits = r.list();
      return reference.tokenMask(row, (id) => (((bits[id >> 5] ?? 0) >> (id & 31)) & 1) === 1);
    }
    case 'forcedTokens':
      return reference.forcedTokens(row, [...r.list()]);
  }
}

/** What the chain of row `r` leaves. */
function processed({ x }: View, r: number): ReferenceRow {
  const [logits, rows, data] = [x(0), x(1), Int32Array.from(x(2).data)];
  const v = logits.shape[1] as number;
  const [at, length, past, pastLength, seed, step] = rows.data.subarray(r * 6, r * 6 + 6) as unknown as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const row: ReferenceRow = {
    scores: Array.from(logits.data.subarray(r * v, (r + 1) * v)),
    history: Array.from(data.subarray(past, past + pastLength)),
    seed: seed >>> 0,
    step: step >>> 0,
  };
  const chain = new Words(data.subarray(at, at + length));
  while (!chain.done) {
    const kind = KIND_NAMES[chain.int()] as keyof typeof CHAIN_KINDS;
    row.scores = apply(kind, row, new Words(chain.list()));
  }
  return row;
}

const logProbabilities = (scores: readonly number[]): number[] => {
  const top = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const log = Math.log(scores.reduce((sum, s) => sum + Math.exp(s - top), 0));
  return scores.map((s) => s - top - log);
};

export const SAMPLE_RULES: Rules = {
  sample(view) {
    const logits = view.x(0);
    const [rows, v] = logits.shape as [number, number];
    const out = [new Float64Array(rows), new Float64Array(rows), new Float64Array(rows)] as const;
    for (let r = 0; r < rows; r++) {
      const row = processed(view, r);
      if (row.scores.every((s) => s === -Infinity)) {
        out[0][r] = -1;
        continue;
      }
      const token = inverseCdf(probabilities(row.scores), uniform(BigInt(row.step), row.seed));
      out[0][r] = token;
      out[1][r] = logProbabilities(Array.from(logits.data.subarray(r * v, (r + 1) * v)))[token] as number;
      out[2][r] = logProbabilities(row.scores)[token] as number;
    }
    return [...out];
  },
  process_logits(view) {
    const rows = view.x(0).shape[0] as number;
    return [Float64Array.from(Array.from({ length: rows }, (_, r) => processed(view, r).scores).flat())];
  },
  token_logprobs({ x, number }) {
    const [logits, targets, n] = [x(0), x(1), number('n')];
    const [rows, v] = logits.shape as [number, number];
    const logprobs = new Float64Array(rows);
    const ranks = new Float64Array(rows);
    const top: number[] = [];
    const topLogprobs: number[] = [];
    for (let r = 0; r < rows; r++) {
      const row = Array.from(logits.data.subarray(r * v, (r + 1) * v));
      const logs = logProbabilities(row);
      const target = targets.data[r] as number;
      if (target >= 0) {
        logprobs[r] = logs[target] as number;
        ranks[r] = 1 + row.filter((s) => s > (row[target] as number)).length;
      }
      const order = row.map((_, i) => i).sort((i, j) => (row[j] as number) - (row[i] as number) || i - j);
      top.push(...order.slice(0, n));
      topLogprobs.push(...order.slice(0, n).map((i) => logs[i] as number));
    }
    return [logprobs, ranks, Float64Array.from(top), Float64Array.from(topLogprobs)];
  },
};
