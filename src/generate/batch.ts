/** Several prompts continued together. */
import { checkOptions } from '../core/errors.js';
import { Continuation } from './continuation.js';
import {
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerationHost,
  type GenerationResult,
  laneOptions,
} from './generation.js';
import { Run, type Strategy } from './run.js';
import { strategyOf } from './strategy.js';

/** Options that hold for every prompt; the same seed gives each prompt what it would get alone. */
export type BatchOptions = Omit<GenerateOptions, 'routing'>;
export type BatchResult = Omit<GenerationResult, 'timings' | 'routing'>;

/**
 * Continues all prompts; the results are in their order and do not depend on each other. Those that the cache has no room for
 * wait until others have ended.
 */
export async function generateAll(
  { scheduler, ...host }: GenerationHost,
  prompts: readonly (readonly number[])[],
  options: BatchOptions = {},
): Promise<BatchResult[]> {
  checkOptions(
    'generateAll',
    options,
    GENERATE_OPTIONS.filter((name) => name !== 'routing'),
  );
  const { signal } = options;
  const wanted = laneOptions(options);
  const strategy = strategyOf(options);
  const runs = prompts
    .map((prompt) => new Continuation(host, prompt, options))
    .map((continuation) => new Run(scheduler, continuation, wanted, signal));
  try {
    await Promise.all(runs.map((run) => finish(run, strategy)));
  } finally {
    await Promise.all(runs.map((run) => run.end()));
  }
  return runs.map(({ continuation: { text, tokens, logprobs, finishReason, hypotheses } }) => ({
    text,
    tokens,
    logprobs,
    finishReason,
    ...(hypotheses ? { hypotheses } : {}),
  }));
}

async function finish(run: Run, strategy: Strategy): Promise<void> {
  for await (const _ of run.follow(strategy));
}
