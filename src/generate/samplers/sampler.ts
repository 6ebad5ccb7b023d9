/** A sampler: processors in the order in which they are applied. */
import { checkOptions, SwitchyardError } from '../../core/errors.js';
import { inRange, type Processor } from './processor.js';

/** How the next token is chosen from the logits. Holds no state of a text: one sampler may serve any number of them. */
export class Sampler {
  /** @internal Use `samplers`. */
  constructor(
    readonly processors: readonly Processor[],
    /** Seed of the draws; the same seed gives the same text alone or in any batch. undefined: drawn for each text. */
    readonly seed: number | undefined = undefined,
  ) {}

  static of(processor: Processor): Sampler {
    return new Sampler([processor]);
  }
}

export const checkSeed = (seed: unknown): number =>
  inRange('seed', seed, { from: 0, to: 2 ** 32 - 1, whole: true });

/**
 * Composes samplers: each sees what the one before it has left. After the last one a token is drawn.
 * @throws SwitchyardError ERR_OPTION for a part that is no sampler
 */
export function chain(parts: readonly Sampler[], options: { seed?: number } = {}): Sampler {
  checkOptions('samplers.chain', options, ['seed']);
  if (!Array.isArray(parts) || parts.some((part) => !(part instanceof Sampler)))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[samplers.chain] got ${String(parts)}, expected an array of samplers`,
      {
        hint: 'samplers.chain([samplers.topK(40), samplers.temperature(0.7)])',
      },
    );
  const seed =
    options.seed === undefined ? parts.find((part) => part.seed !== undefined)?.seed : options.seed;
  return new Sampler(
    parts.flatMap((part) => part.processors),
    seed === undefined ? undefined : checkSeed(seed),
  );
}
