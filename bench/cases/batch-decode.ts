import type { LanguageModel } from '../../src/generate/handles/language-model.js';
import { samplers } from '../../src/generate/samplers/index.js';
import type { StepOptions } from '../../src/generate/steps/engine.js';
import { Sampling } from '../../src/generate/steps/sampling.js';
import type { StepOutput } from '../../src/generate/steps/step-form.js';
import { type Bench, defineCase } from '../harness/case.js';
import { contest, converted } from '../harness/contest.js';
import { leastTime, workOfStep } from '../harness/cost.js';
import { contestants, startModelPeers } from '../harness/model-peers.js';
import { openBenchModel, promptOf } from '../harness/models.js';
import { plural } from '../harness/report.js';

const SEQUENCES = [1, 2, 4, 8, 16, 32, 64];
/** Tokens of each sequence before the first new one, short: the weights are what several sequences share. */
const DEPTH = 16;
const NEW_TOKENS = 17;
/** A step of many sequences takes half a second. */
const RUNS = 5;

export default defineCase({
  about: 'tokens per second of a model file, 1 to 64 sequences at a time, together',
  words: ['model', 'generate', 'sequences', 'speed', 'peers'],
  async run(bench: Bench) {
    const { limits, emit, note } = bench;
    const options = { ...bench.options, runs: Math.min(bench.options.runs, RUNS) };
    const counts = options.smoke ? [1, 3] : SEQUENCES;
    const newTokens = options.smoke ? 3 : NEW_TOKENS;
    const room = 64 * Math.ceil((DEPTH + newTokens) / 64);
    const { model, name, path } = await openBenchModel(bench, {
      contextLength: room,
      cacheTokens: room * Math.max(...counts),
    });
    const peers = (await startModelPeers(options, path, note)).filter((peer) => {
      if (!peer.decodeMany) peer.stop();
      return peer.decodeMany !== undefined;
    });
    try {
      for (const sequences of counts) {
        const length = DEPTH + newTokens;
        const text = promptOf(model, length * sequences);
        const texts = Array.from({ length: sequences }, (_, i) => text.slice(i * length, (i + 1) * length));
        const prompts = texts.map((ids) => ids.slice(0, DEPTH));
        const { ours, peers: theirs } = await contest(
          bench,
          async () => (await together(model, texts, newTokens)).ms,
          contestants(peers, (peer) => peer.decodeMany?.(prompts, newTokens)),
          ['read', model.dtype],
        );
        const rate = (ms: number): number => (1000 * sequences * (newTokens - 1)) / ms;
        const met = await metShare(model, texts, newTokens);
        const work = workOfStep(model.decoder, sequences, met);
        const step = await leastTime(limits, work, model.dtype);
        emit({
          metric: 'batch decode',
          shape: `${name}, ${plural(sequences, 'sequence')}`,
          format: model.dtype,
          unit: 'tokens/s',
          values: ours.map(rate),
          limit: (1000 * sequences) / step,
          peers: converted(theirs, rate),
        });
      }
    } finally {
      for (const peer of peers) peer.stop();
      await model.dispose();
    }
  },
});

/**
 * Runs sequences together: their first DEPTH tokens one by one, then a step for each further one. The tokens are given, not
 * those that were drawn: sequences that agree would say nothing of others.
 */
async function together(
  { engine }: LanguageModel,
  texts: readonly (readonly number[])[],
  newTokens: number,
  options: StepOptions = {},
): Promise<{ ms: number; steps: StepOutput[] }> {
  const rows = texts.map((text) => ({
    text,
    sequence: engine.newSequence(),
    sampling: new Sampling(samplers.greedy()),
  }));
  const step = (from: number, to: number, some = rows): Promise<StepOutput> =>
    engine.step(
      some.map((row) => ({ ...row, tokens: row.text.slice(from, to) })),
      options,
    );
  try {
    for (const row of rows) await step(0, DEPTH, [row]);
    const steps: StepOutput[] = [];
    const start = performance.now();
    for (let at = DEPTH; at < DEPTH + newTokens - 1; at++) steps.push(await step(at, at + 1));
    return { ms: performance.now() - start, steps };
  } finally {
    for (const { sequence } of rows) sequence.release();
  }
}

/** Of all experts the share that a step meets: random weights may send other tokens to the same ones. */
async function metShare(
  model: LanguageModel,
  texts: readonly (readonly number[])[],
  newTokens: number,
): Promise<number | undefined> {
  const { moe } = model.decoder.config;
  if (moe === null) return undefined;
  const { steps } = await together(model, texts, newTokens, { routing: true });
  const layers = steps.flatMap(({ experts }) => experts);
  const met = layers.reduce((sum, ids) => sum + new Set(ids).size, 0);
  return met / (layers.length * moe.nExperts);
}
