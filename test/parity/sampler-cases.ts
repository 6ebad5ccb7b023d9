/** The rules of samplers/cases.json, in transformers' spelling, as our samplers. */
import { SwitchyardError } from '../../src/core/errors.js';
import { ChainBatch } from '../../src/generate/samplers/chain-batch.js';
import { type Sampler, samplers } from '../../src/generate/samplers/index.js';
import { Sampling } from '../../src/generate/steps/sampling.js';

export interface SamplerRule {
  readonly rule: string;
  readonly value: unknown;
}

interface Made {
  readonly sampler: Sampler;
  readonly endIds?: readonly number[];
  /** Tokens of the history that are the prompt; default all. */
  readonly promptLength?: number;
}

const ends = (value: unknown): number[] => [value].flat() as number[];

/** By rule. */
const RULES: Readonly<Record<string, (value: never, length: number) => Made>> = {
  temperature: (t: number) => ({ sampler: samplers.temperature(t) }),
  top_k: (k: number) => ({ sampler: samplers.topK(k) }),
  top_p: (p: number) => ({ sampler: samplers.topP(p) }),
  min_p: (p: number) => ({ sampler: samplers.minP(p) }),
  typical_p: (p: number) => ({ sampler: samplers.typical(p) }),
  epsilon_cutoff: (e: number) => ({ sampler: samplers.epsilon(e) }),
  eta_cutoff: (e: number) => ({ sampler: samplers.eta(e) }),
  repetition_penalty: (p: number) => ({ sampler: samplers.repetitionPenalty(p) }),
  no_repeat_ngram_size: (n: number) => ({ sampler: samplers.noRepeatNgram(n) }),
  suppress_tokens: (ids: number[]) => ({ sampler: samplers.suppressTokens(ids) }),
  bad_words_ids: (words: number[][]) => ({ sampler: samplers.badWords(words) }),
  sequence_bias: (pairs: [number[], number][]) => ({ sampler: samplers.sequenceBias(pairs) }),
  min_new_tokens: (v: { prompt_length: number; min_new_tokens: number; eos_token_id: number[] }) => ({
    sampler: samplers.minLength(v.min_new_tokens),
    endIds: ends(v.eos_token_id),
    promptLength: v.prompt_length,
  }),
  // counts the prompt: every token of the history is new here
  min_length: (v: { min_length: number; eos_token_id: number[] }) => ({
    sampler: samplers.minLength(v.min_length),
    endIds: ends(v.eos_token_id),
    promptLength: 0,
  }),
  forced_eos: (v: { max_length: number; eos_token_id: number[] }, length) => ({
    sampler: length === v.max_length - 1 ? samplers.maxLength(v.max_length) : samplers.chain([]),
    endIds: ends(v.eos_token_id),
    promptLength: 0,
  }),
  forced_bos: (id: number, length) => ({
    sampler: length === 1 ? samplers.forcedTokens({ 1: id }) : samplers.chain([]),
    promptLength: 0,
  }),
};

/** The chains of a case's rows. */
export function chainsOf(
  rules: readonly SamplerRule[],
  histories: readonly (readonly number[])[],
  vocabSize: number,
): ChainBatch {
  const batch = new ChainBatch();
  for (const history of histories) {
    const made = rules.map(({ rule, value }): Made => {
      const make = RULES[rule];
      if (!make) throw new SwitchyardError('ERR_OPTION', `[fixtures] got rule ${rule}, expected a known one`);
      return make(value as never, history.length);
    });
    const endIds = new Set(made.flatMap((m) => m.endIds ?? []));
    const promptLength = made.find((m) => m.promptLength !== undefined)?.promptLength ?? history.length;
    const sampling = new Sampling(
      samplers.chain(made.map((m) => m.sampler)),
      history.slice(0, promptLength),
      { context: { endIds, vocabSize }, seed: 1 },
    );
    for (const token of history.slice(promptLength)) sampling.take({ token });
    sampling.write(batch);
  }
  return batch;
}
