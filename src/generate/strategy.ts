/** Which way of decoding the options ask for. */
import { mismatch } from '../core/errors.js';
import { type BeamOptions, beamSearch, beamSettings } from './beam.js';
import { CHOICE_OPTIONS, type ContinuationOptions } from './continuation.js';
import { diverseBeamSearch } from './diverse-beam.js';
import { plain, type Strategy } from './run.js';
import { checkDrafter, type Drafter, speculative } from './speculative.js';

export interface StrategyOptions {
  /** Beam search with this many beams, or as its options say. */
  beams?: number | BeamOptions;
  /** Who guesses tokens ahead, so that one step may give several: the text stays the same. See `drafters`. */
  speculation?: Drafter;
}

export const STRATEGY_OPTIONS = ['beams', 'speculation'] as const;

/** What a search decides by itself, or cannot look at before it has ended. */
const NOT_SEARCHED = [...CHOICE_OPTIONS, 'stop'] as const;

/** @throws SwitchyardError ERR_OPTION */
export function strategyOf(options: StrategyOptions & ContinuationOptions): Strategy {
  const { beams, speculation } = options;
  if (speculation !== undefined) {
    const drafter = checkDrafter(speculation);
    if (beams !== undefined)
      throw mismatch('ERR_OPTION', 'generate', 'speculation together with beams', 'one of them');
    return speculative(drafter);
  }
  if (beams === undefined) return plain;
  refuse('beams', options, NOT_SEARCHED);
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
