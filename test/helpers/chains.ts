/** Chains run outside a model: rows of logits through samplers. */
import { defaultDevice } from '../../src/core/device.js';
import { processLogits, sample } from '../../src/core/ops/sampling.js';
import { evaluate } from '../../src/core/program/compile.js';
import { tensor } from '../../src/core/tensor.js';
import { ChainBatch } from '../../src/generate/samplers/chain-batch.js';
import type { Sampler } from '../../src/generate/samplers/index.js';
import type { SequenceContext } from '../../src/generate/samplers/processor.js';
import { Sampling } from '../../src/generate/steps/sampling.js';

export interface ChainRow {
  readonly sampler: Sampler;
  readonly logits: readonly number[];
  readonly history?: readonly number[];
  readonly seed?: number;
  readonly step?: number;
}

export interface ChainResult {
  readonly tokens: Int32Array;
  readonly logprobs: Float32Array;
  readonly chosen: Float32Array;
  /** [rows, V]; -Infinity: removed. */
  readonly scores: Float32Array;
}

/** Draws a token for each row and gives the scores that its chain leaves. All rows are one batch. */
export async function runChains(
  rows: readonly ChainRow[],
  context: SequenceContext = { endIds: new Set() },
): Promise<ChainResult> {
  const batch = new ChainBatch();
  const v = rows[0]?.logits.length ?? 1;
  const seen = new Map<Sampler, ReturnType<Sampler['processors'][number]['start']>[]>();
  for (const { sampler, history = [], seed = 1, step = 0 } of rows) {
    const running = seen.get(sampler) ?? sampler.processors.map((p) => p.start(context));
    seen.set(sampler, running);
    const place = { length: history.length, promptLength: history.length };
    batch.row({ history: Int32Array.from(history), seed, step }, (chain) => {
      for (const one of running) one.write(chain, place);
    });
  }
  const logits = new Float32Array(rows.length * v);
  rows.forEach((row, r) => {
    logits.set(row.logits, r * v);
  });
  const inputs = {
    logits: tensor(logits, [rows.length, v]),
    rows: tensor(batch.rows.slice(), [rows.length, 6]),
    data: tensor(batch.data.slice()),
  };
  const drawn = sample(inputs);
  const scores = processLogits(inputs);
  await evaluate([...Object.values(drawn), scores], defaultDevice());
  return {
    tokens: (await drawn.tokens.data()) as Int32Array,
    logprobs: (await drawn.logprobs.data()) as Float32Array,
    chosen: (await drawn.chosen.data()) as Float32Array,
    scores: (await scores.data()) as Float32Array,
  };
}

/** The state of a text after some tokens. */
export function sampled(
  sampler: Sampler,
  prompt: readonly number[],
  tokens: readonly { token: number; chosen?: number }[],
  context?: SequenceContext,
): Sampling {
  const sampling = new Sampling(sampler, prompt, { seed: 1, ...(context ? { context } : {}) });
  for (const token of tokens) sampling.take(token);
  return sampling;
}
