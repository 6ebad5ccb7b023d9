/** Several prompts continued together. */
import { checkOptions, SwitchyardError } from '../core/errors.js';
import { Continuation } from './continuation.js';
import {
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerationHost,
  type GenerationResult,
  laneOptions,
} from './generation.js';
import type { Lane } from './lane.js';
import type { Choice } from './sampling.js';

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
  const continuations = prompts.map((prompt) => new Continuation(host, prompt, options));
  const lanes = continuations.map(() => scheduler.open(wanted));
  const closeAll = (): Promise<unknown> => Promise.all(lanes.map((lane) => lane.close()));
  const onAbort = (): void => void closeAll();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    await Promise.all(continuations.map((continuation, i) => finish(lanes[i] as Lane, continuation)));
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new SwitchyardError('ERR_ABORTED', '[generateAll] got an abort, expected to finish', {
      cause: signal.reason,
    });
  } finally {
    signal?.removeEventListener('abort', onAbort);
    await closeAll();
  }
  return continuations.map(({ text, tokens, logprobs, finishReason }) => ({
    text,
    tokens,
    logprobs,
    finishReason,
  }));
}

/** Runs a continuation to its end. */
async function finish(lane: Lane, continuation: Continuation): Promise<void> {
  const { sampling } = continuation;
  let tokens = continuation.prompt;
  while (!continuation.finished) {
    const { results } = await lane.feed(tokens, { sampling });
    const choice = results[0] as Choice;
    continuation.take(choice);
    continuation.decode();
    tokens = [choice.token];
  }
  await lane.close();
}
