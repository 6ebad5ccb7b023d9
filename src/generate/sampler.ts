/** How the next token is chosen from the logits; run natively, one sampler per sequence. */
import { checkOptions, SwitchyardError } from '../core/errors.js';

export interface Sampler {
  /** 0: greedy. */
  readonly temperature: number;
  /** Keep the k likeliest tokens; 0: all. */
  readonly topK: number;
  /** Keep the likeliest tokens up to this probability mass; 1: all (Holtzman et al. 2020). */
  readonly topP: number;
  /** Divides positive and multiplies negative logits of tokens seen before; 1: off (Keskar et al. 2019). */
  readonly repetitionPenalty: number;
  /** Seed of the draws; the same seed gives the same text alone or in a batch. */
  readonly seed: number;
}

export interface SamplerOptions {
  /** Default 1. */
  temperature?: number;
  /** Default 0 (off). */
  topK?: number;
  /** Default 1 (off). */
  topP?: number;
  /** Default 1 (off). */
  repetitionPenalty?: number;
  /** Default: drawn at random. */
  seed?: number;
}

function inRange(name: string, value: number, low: number, high: number, whole = false): number {
  if (typeof value !== 'number' || !(value >= low && value <= high) || (whole && !Number.isInteger(value))) {
    throw new SwitchyardError(
      'ERR_OPTION',
      `[sampler] got ${name} ${value}, expected ${whole ? 'a whole number' : 'a number'} from ${low} to ${high}`,
    );
  }
  return value;
}

/** Repetition penalty, temperature, top-k, top-p, then a draw. */
function sample(options: SamplerOptions = {}): Sampler {
  checkOptions('sampler', options, ['temperature', 'topK', 'topP', 'repetitionPenalty', 'seed']);
  const {
    temperature = 1,
    topK = 0,
    topP = 1,
    repetitionPenalty = 1,
    seed = Math.floor(Math.random() * 2 ** 32),
  } = options;
  return {
    temperature: inRange('temperature', temperature, 0, 100),
    topK: inRange('topK', topK, 0, 2 ** 24, true),
    topP: inRange('topP', topP, 0, 1),
    repetitionPenalty: inRange('repetitionPenalty', repetitionPenalty, 0.01, 100),
    seed: inRange('seed', seed, 0, 2 ** 32 - 1, true),
  };
}

/** The likeliest token; ties go to the lower id. */
const greedy = (options: { repetitionPenalty?: number } = {}): Sampler =>
  sample({ ...options, temperature: 0, seed: 0 });

export const samplers = { greedy, sample } as const;
