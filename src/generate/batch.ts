/** Several prompts continued together. */
import { checkOptions, mismatch } from '../core/errors.js';
import { Continuation } from './continuation.js';
import {
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerationHost,
  laneOptions,
  type Outcome,
  outcomeOf,
} from './generation.js';
import { Run, type Strategy } from './run.js';
import { strategyOf } from './strategy.js';

/** Options that hold for every prompt; the same seed gives each prompt what it would get alone. */
export interface BatchOptions extends Omit<GenerateOptions, 'routing'> {
  /** `prefixLength` of each prompt. */
  prefixLengths?: readonly number[];
}
export type BatchResult = Outcome;

/**
 * Continues all prompts; the results are in their order and do not depend on each other. Those that the cache has no room for
 * wait until others have ended.
 */
export async function generateAll(
  { scheduler, ...host }: GenerationHost,
  prompts: readonly (readonly number[])[],
  options: BatchOptions = {},
): Promise<BatchResult[]> {
  checkOptions('generateAll', options, [
    ...GENERATE_OPTIONS.filter((name) => name !== 'routing'),
    'prefixLengths',
  ]);
  const { signal } = options;
  const strategy = strategyOf(options);
  const { prefixLengths } = options;
  if (prefixLengths && (prefixLengths.length !== prompts.length || options.prefixLength !== undefined))
    throw mismatch(
      'ERR_OPTION',
      'generateAll',
      `${prefixLengths.length} prefixLengths for ${prompts.length} prompts${options.prefixLength === undefined ? '' : ', and prefixLength'}`,
      'one a prompt',
    );
  const prepared = prompts.map((prompt, i) => {
    const lane = laneOptions(
      prefixLengths ? { ...options, prefixLength: prefixLengths[i] as number } : options,
      prompt.length,
    );
    return { continuation: new Continuation(host, prompt, options), lane };
  });
  const { remember } = host;
  const runs = prepared.map(
    ({ continuation, lane }, i) =>
      new Run(scheduler, continuation, lane, signal, remember ? () => remember(i) : null),
  );
  try {
    await Promise.all(runs.map((run) => finish(run, strategy)));
  } finally {
    await Promise.all(runs.map((run) => run.end()));
  }
  return runs.map(({ continuation }) => outcomeOf(continuation));
}

async function finish(run: Run, strategy: Strategy): Promise<void> {
  for await (const _ of run.follow(strategy));
}
