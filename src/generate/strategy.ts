/** Which way of decoding the options ask for. */
import { mismatch } from '../core/errors.js';
import { CONSTRAINT_OPTIONS } from './constrain/grammar.js';
import { CHOICE_OPTIONS, type ContinuationOptions } from './continuation.js';
import { plain, type Strategy } from './run.js';
import { EDIT_OPTIONS } from './samplers/options.js';
import { type BeamOptions, beamSearch, beamSettings } from './search/beam.js';
import { type ContrastiveOptions, contrastiveSearch, contrastiveSettings } from './search/contrastive.js';
import { diverseBeamSearch } from './search/diverse-beam.js';
import { checkDrafter, type Drafter, speculative } from './speculate/speculative.js';

export interface StrategyOptions {
  /** Beam search with this many beams, or as its options say. */
  beams?: number | BeamOptions;
  /** Contrastive search among the likeliest tokens. */
  contrastive?: ContrastiveOptions;
  /** Who guesses tokens ahead, so that one step may give several: the text stays the same. See `drafters`. */
  speculation?: Drafter;
}

export const STRATEGY_OPTIONS = ['beams', 'contrastive', 'speculation'] as const;

/** What chooses among tokens: a search does that itself. */
const CHOOSES = CHOICE_OPTIONS.filter(
  (name) => !([...EDIT_OPTIONS, ...CONSTRAINT_OPTIONS] as readonly string[]).includes(name),
);
/** @throws SwitchyardError ERR_OPTION */
export function strategyOf(options: StrategyOptions & ContinuationOptions): Strategy {
  const { beams, contrastive, speculation } = options;
  const named = STRATEGY_OPTIONS.filter((name) => options[name] !== undefined);
  if (named.length > 1)
    throw mismatch('ERR_OPTION', 'generate', named.join(' together with '), 'one of them');
  if (speculation !== undefined) return speculative(checkDrafter(speculation));
  if (contrastive !== undefined) {
    refuse('contrastive', options, CHOOSES);
    return contrastiveSearch(contrastiveSettings(contrastive));
  }
  if (beams === undefined) return plain;
  refuse('beams', options, CHOOSES);
  const settings = beamSettings(beams);
  return settings.groups > 1 ? diverseBeamSearch(settings) : beamSearch(settings);
}

function refuse(
  what: string,
  options: ContinuationOptions,
  names: readonly (keyof ContinuationOptions)[],
): void {
  const name = names.find((n) => options[n] !== undefined);
  if (name !== undefined)
    throw mismatch('ERR_OPTION', 'generate', `${what} together with ${name}`, 'one of them');
}
