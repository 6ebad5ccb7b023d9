/** The short options of `generate`, and the order in which they become a chain. */
import { checkOptions } from '../../core/errors.js';
import { badWords, type TokenSequence } from './bad-words.js';
import { type DryOptions, dry } from './dry.js';
import { epsilon } from './epsilon.js';
import { eta } from './eta.js';
import { type ForcedTokens, forcedTokens } from './forced-tokens.js';
import { frequencyPenalty } from './frequency-penalty.js';
import { type LogitBias, logitBias, suppressTokens } from './logit-bias.js';
import { type LogitsHook, logitsHook } from './logits-hook.js';
import { minLength } from './min-length.js';
import { minP } from './min-p.js';
import { type MirostatOptions, mirostat } from './mirostat.js';
import { noRepeatNgram } from './no-repeat-ngram.js';
import { presencePenalty } from './presence-penalty.js';
import { repetitionPenalty } from './repetition-penalty.js';
import { chain, checkSeed, type Sampler } from './sampler.js';
import { tailFree } from './tail-free.js';
import { temperature } from './temperature.js';
import { topK } from './top-k.js';
import { topP } from './top-p.js';
import { typical } from './typical.js';
import { type XtcOptions, xtc } from './xtc.js';

/** Each is the sampler of its name; absent ones are off. They are applied in the order in which they stand here. */
export interface SamplerOptions {
  logitBias?: LogitBias;
  suppressTokens?: readonly number[];
  /** 1: off. Tokens of the prompt count. */
  repetitionPenalty?: number;
  /** 0: off. New tokens count. */
  frequencyPenalty?: number;
  /** 0: off. New tokens count. */
  presencePenalty?: number;
  dry?: DryOptions;
  /** 0: off. */
  noRepeatNgramSize?: number;
  badWords?: readonly TokenSequence[];
  /** No end before so many new tokens. */
  minTokens?: number;
  forcedTokens?: ForcedTokens;
  logitsHook?: LogitsHook;
  /** 0: greedy. Default 1 where a filter below is given. */
  temperature?: number;
  /** 0: off. */
  topK?: number;
  /** 1: off. */
  topP?: number;
  /** 0: off. */
  minP?: number;
  /** 1: off. */
  typicalP?: number;
  /** 0: off. */
  epsilonCutoff?: number;
  /** 0: off. */
  etaCutoff?: number;
  /** 1: off. */
  tailFree?: number;
  xtc?: XtcOptions;
  mirostat?: MirostatOptions;
  /** Default: drawn for each text. */
  seed?: number;
}

type Named = Exclude<keyof SamplerOptions, 'seed'>;
/** Applied in this order: transformers' order of what both know. */
const EDITS = {
  logitBias,
  suppressTokens,
  repetitionPenalty,
  frequencyPenalty,
  presencePenalty,
  dry,
  noRepeatNgramSize: noRepeatNgram,
  badWords,
  minTokens: minLength,
  forcedTokens,
  logitsHook,
};
const FILTERS = {
  topK,
  topP,
  minP,
  typicalP: typical,
  epsilonCutoff: epsilon,
  etaCutoff: eta,
  tailFree,
  xtc,
  mirostat,
};

/** Those that edit scores and choose nothing. */
export const EDIT_OPTIONS = Object.keys(EDITS) as (keyof typeof EDITS)[];

export const SAMPLER_OPTIONS = [
  ...Object.keys(EDITS),
  'temperature',
  ...Object.keys(FILTERS),
  'seed',
] as (keyof SamplerOptions)[];

function made(
  table: Readonly<Record<string, (value: never) => Sampler>>,
  options: SamplerOptions,
): Sampler[] {
  return Object.entries(table).flatMap(([name, make]) => {
    const value = options[name as Named];
    return value === undefined ? [] : [make(value as never)];
  });
}

/**
 * A sampler that draws: penalties, temperature, top-k, top-p, min-p, typical, epsilon, eta, tail-free, XTC, mirostat.
 * @throws SwitchyardError ERR_OPTION
 */
export function sample(options: SamplerOptions = {}): Sampler {
  checkOptions('sampler', options, SAMPLER_OPTIONS);
  const edits = made(EDITS, options);
  const filters = made(FILTERS, options);
  const heat = temperature(options.temperature ?? 1);
  const seed = options.seed === undefined ? {} : { seed: checkSeed(options.seed) };
  return chain(options.temperature === 0 ? [...edits, heat] : [...edits, heat, ...filters], seed);
}

/** As `sample`, but greedy where neither a temperature nor a filter is given. */
export function samplerOf(options: SamplerOptions): Sampler {
  const draws = ['temperature', ...Object.keys(FILTERS)].some((name) => options[name as Named] !== undefined);
  return sample(draws ? options : { ...options, temperature: 0 });
}
