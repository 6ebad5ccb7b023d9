/** Several answers to one prompt: its blocks are computed once and shared, each answer draws with a seed of its own. */
import { checkOptions, checkWhole, mismatch } from '../../core/errors.js';
import type { BatchOptions, BatchResult } from '../batch.js';
import { Continuation } from '../continuation.js';
import { GENERATE_OPTIONS, type GenerationHost, laneOptions, outcomeOf } from '../generation.js';
import { Run } from '../run.js';
import type { Memory } from '../steps/memory.js';
import { strategyOf } from '../strategy.js';

export interface ManyOptions extends Omit<BatchOptions, 'beams' | 'contrastive' | 'prefixLengths'> {
  /** Answers, 1 to 1024. */
  n: number;
}

export const MANY_OPTIONS = [
  ...GENERATE_OPTIONS.filter((name) => name !== 'routing' && name !== 'beams' && name !== 'contrastive'),
  'n',
] as const;
const MOST = 1024;

/** Answer i is what `generate` gives with the seed `seed + i` (default: a random seed). */
export async function generateMany(
  { scheduler, ...host }: GenerationHost,
  prompt: readonly number[],
  options: ManyOptions,
): Promise<BatchResult[]> {
  checkOptions('generateMany', options, MANY_OPTIONS);
  const { n, seed, signal, ...rest } = options;
  checkWhole('generateMany', 'n', n, 1);
  if (n > MOST) throw mismatch('ERR_OPTION', 'generateMany', `n ${n}`, `at most ${MOST}`);
  const first = seed ?? rest.sampler?.seed ?? Math.floor(Math.random() * 2 ** 32);
  const continuations = Array.from(
    { length: n },
    (_, i) => new Continuation(host, prompt, { ...rest, seed: (first + i) % 2 ** 32 }),
  );
  const wanted = laneOptions(rest, prompt.length);
  const strategy = strategyOf(rest);
  const [reader] = continuations as [Continuation];
  const tell = (): void => {
    for (const each of continuations) each.echoed = reader.echoed;
  };
  /** Reads all but the last token, behind which each answer chooses for itself. */
  async function* share(run: Run): AsyncGenerator<never> {
    const origin = run.open();
    if (reader.wantsEcho) await run.echo(origin);
    else if (prompt.length > 1) await run.feed(origin, prompt.slice(0, -1), { sampling: null });
    tell();
    const runs = continuations.map((c) => new Run(scheduler, c, wanted, signal, null, undefined, origin));
    try {
      await Promise.all(
        runs.map(async (each) => {
          for await (const _ of each.follow(strategy));
        }),
      );
    } finally {
      await Promise.all(runs.map((each) => each.end()));
    }
  }
  const remember = host.remember ? () => host.remember?.(0) as Promise<Memory> : null;
  const shared = new Run(scheduler, reader, wanted, signal, remember);
  for await (const _ of shared.follow(share));
  tell();
  return continuations.map(outcomeOf);
}
