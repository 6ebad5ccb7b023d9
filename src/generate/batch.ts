/** Several prompts continued together: one ragged batch a step. */
import { checkOptions, SwitchyardError } from '../core/errors.js';
import type { KvSequence } from '../nn/kv-sequence.js';
import { Continuation } from './continuation.js';
import { MAX_CHUNK, type StepRow } from './engine.js';
import {
  GENERATE_OPTIONS,
  type GenerateOptions,
  type GenerationHost,
  type GenerationResult,
} from './generation.js';

/** Options that hold for every prompt; the same seed gives each prompt what it would get alone. */
export type BatchOptions = Omit<GenerateOptions, 'routing'>;
export type BatchResult = Omit<GenerationResult, 'timings' | 'routing'>;

interface Row {
  readonly sequence: KvSequence;
  readonly continuation: Continuation;
  /** Tokens of the prompt in the cache. */
  fed: number;
}

/**
 * Continues all prompts; the results are in their order and do not depend on each other. A step decodes one token of each
 * prompt that has been read and reads on in the others, up to MAX_CHUNK tokens. The cache must hold all of them at once.
 */
export async function generateAll(
  host: GenerationHost,
  prompts: readonly (readonly number[])[],
  options: BatchOptions = {},
): Promise<BatchResult[]> {
  checkOptions(
    'generateAll',
    options,
    GENERATE_OPTIONS.filter((name) => name !== 'routing'),
  );
  const { engine, device } = host;
  const { signal } = options;
  const rows = prompts.map(
    (prompt): Row => ({
      sequence: engine.newSequence(),
      continuation: new Continuation(host, prompt, options),
      fed: 0,
    }),
  );
  const abort = device.addon.createAbort();
  const onAbort = (): void => device.addon.abort(abort);
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    signal?.throwIfAborted();
    for (;;) {
      const open = rows.filter((row) => !row.continuation.finished);
      const batch = nextStep(open);
      if (batch.length === 0) break;
      const { results } = await engine.step(
        batch.map(({ step }) => step),
        { abort },
      );
      let next = 0;
      for (const { row, step } of batch) {
        row.fed = Math.min(row.fed + step.tokens.length, row.continuation.prompt.length);
        if (!step.sampling) continue;
        row.continuation.take(results[next++] as (typeof results)[number]);
        row.continuation.decode();
        if (row.continuation.finished) row.sequence.release();
      }
    }
  } catch (error) {
    if (!signal?.aborted) throw error;
    throw new SwitchyardError('ERR_ABORTED', '[generateAll] got an abort, expected to finish', {
      cause: signal.reason,
    });
  } finally {
    signal?.removeEventListener('abort', onAbort);
    for (const { sequence } of rows) sequence.release();
  }
  return rows.map(({ continuation: { text, tokens, logprobs, finishReason } }) => ({
    text,
    tokens,
    logprobs,
    finishReason,
  }));
}

/** Rows that decode come first, so that long prompts do not hold them up. */
function nextStep(open: readonly Row[]): { row: Row; step: StepRow }[] {
  const batch: { row: Row; step: StepRow }[] = [];
  const reads = (row: Row): boolean => row.fed < row.continuation.prompt.length;
  let room = MAX_CHUNK;
  for (const row of [...open.filter((r) => !reads(r)), ...open.filter(reads)]) {
    if (room === 0) break;
    const { sequence, continuation, fed } = row;
    const { prompt, tokens: made } = continuation;
    const tokens = reads(row) ? prompt.slice(fed, fed + room) : made.slice(-1);
    const chooses = fed + tokens.length >= prompt.length;
    room -= tokens.length;
    batch.push({
      row,
      step: {
        sequence,
        tokens,
        sampling: chooses ? continuation.sampling : null,
      },
    });
  }
  return batch;
}
