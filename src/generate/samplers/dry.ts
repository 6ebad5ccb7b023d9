import { checkOptions, SwitchyardError } from '../../core/errors.js';
import { windowStart } from './penalty-window.js';
import { checkTokens, inRange, type Processor, type SequenceContext, tokenList } from './processor.js';
import { Sampler } from './sampler.js';

export interface DryOptions {
  /** Default 0.8; 0 is off. */
  multiplier?: number;
  /** Default 1.75. */
  base?: number;
  /** Repetitions of fewer tokens cost nothing. Default 2. */
  allowedLength?: number;
  /** Texts or token ids that a repetition does not reach across. Default: newline, colon, double quote, asterisk. */
  breakers?: readonly (string | number)[];
  /** Only so many tokens before the next one count. Default: all. */
  window?: number;
}

const BREAKERS = ['\n', ':', '"', '*'];

/**
 * "Don't repeat yourself" (p-e-w 2024): where the last n ≥ allowedLength tokens occurred before, the token that followed them there
 * loses multiplier · base^(n − allowedLength). A text breaks a match where it ends in the last token of that text behind a letter.
 * The prompt counts.
 */
export function dry(options: DryOptions = {}): Sampler {
  checkOptions('dry', options, ['multiplier', 'base', 'allowedLength', 'breakers', 'window']);
  const multiplier = inRange('dry multiplier', options.multiplier ?? 0.8, { from: 0, to: 100 });
  const base = inRange('dry base', options.base ?? 1.75, { from: 1, to: 100 });
  const allowed = inRange('dry allowedLength', options.allowedLength ?? 2, {
    from: 1,
    to: 2 ** 20,
    whole: true,
  });
  const breakers = checkBreakers(options.breakers);
  const from = windowStart('dry', options.window === undefined ? {} : { window: options.window }, true);
  const processor: Processor = {
    name: 'dry',
    readsHistory: multiplier > 0,
    start(context) {
      const ids = breakerIds(breakers, context);
      return {
        write(chain, place) {
          if (multiplier === 0) return;
          chain.begin('dry').number(multiplier).number(base).int(allowed).int(from(place)).list(ids).end();
        },
      };
    },
  };
  return Sampler.of(processor);
}

function checkBreakers(given: DryOptions['breakers']): readonly (string | number)[] | null {
  if (given === undefined) return null;
  if (
    !Array.isArray(given) ||
    given.some((b) => b === '' || (typeof b !== 'string' && typeof b !== 'number'))
  )
    throw new SwitchyardError(
      'ERR_OPTION',
      `[sampler] got dry breakers ${JSON.stringify(given)}, expected an array of texts and token ids`,
    );
  tokenList(
    'dry breakers',
    given.filter((b) => typeof b === 'number'),
  );
  return given;
}

/** Rising. Default breakers need a tokenizer only where there is one; given texts need it. */
function breakerIds(breakers: readonly (string | number)[] | null, context: SequenceContext): Int32Array {
  const { tokenizer } = context;
  const ids = new Set<number>();
  for (const b of breakers ?? (tokenizer ? BREAKERS : [])) {
    if (typeof b === 'number') {
      ids.add(b);
      continue;
    }
    if (!tokenizer)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[sampler] got dry breaker '${b}' and no tokenizer, expected token ids`,
      );
    const last = tokenizer.encode(`a${b}`, { addSpecialTokens: false }).at(-1);
    if (last !== undefined) ids.add(last);
  }
  checkTokens(ids, context);
  return Int32Array.from(ids).sort();
}
