/** Every sampler by name: `samplers.chain([samplers.topK(40), samplers.topP(0.9), samplers.temperature(0.7)])`. */
import { badWords, sequenceBias } from './bad-words.js';
import { dry } from './dry.js';
import { epsilon } from './epsilon.js';
import { eta } from './eta.js';
import { forcedTokens } from './forced-tokens.js';
import { frequencyPenalty } from './frequency-penalty.js';
import { greedy } from './greedy.js';
import { logitBias, suppressTokens } from './logit-bias.js';
import { logitsHook } from './logits-hook.js';
import { maxLength } from './max-length.js';
import { minLength } from './min-length.js';
import { minP } from './min-p.js';
import { mirostat } from './mirostat.js';
import { noRepeatNgram } from './no-repeat-ngram.js';
import { sample } from './options.js';
import { presencePenalty } from './presence-penalty.js';
import { repetitionPenalty } from './repetition-penalty.js';
import { chain } from './sampler.js';
import { tailFree } from './tail-free.js';
import { temperature } from './temperature.js';
import { topK } from './top-k.js';
import { topP } from './top-p.js';
import { typical } from './typical.js';
import { xtc } from './xtc.js';

export const samplers = {
  chain,
  sample,
  greedy,
  temperature,
  topK,
  topP,
  minP,
  typical,
  tailFree,
  epsilon,
  eta,
  mirostat,
  xtc,
  repetitionPenalty,
  frequencyPenalty,
  presencePenalty,
  dry,
  noRepeatNgram,
  logitBias,
  suppressTokens,
  badWords,
  sequenceBias,
  minLength,
  maxLength,
  forcedTokens,
  logitsHook,
} as const;

export type { SamplerOptions } from './options.js';
export { Sampler } from './sampler.js';
