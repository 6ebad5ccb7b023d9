/** What has been generated after one prompt so far, and when it ends. */
import { mismatch, SwitchyardError } from '../core/errors.js';
import { StopStrings } from '../text/stop-strings.js';
import { StreamDecoder } from '../text/stream-decoder.js';
import type { Tokenizer } from '../text/tokenizer.js';
import {
  CONSTRAINT_OPTIONS,
  type Constraint,
  type ConstraintOptions,
  constraintOf,
  finishedValue,
} from './constrain/grammar.js';
import type { ScoredToken } from './likelihood.js';
import { constrained } from './samplers/constrained.js';
import { SAMPLER_OPTIONS, type SamplerOptions, samplerOf } from './samplers/options.js';
import type { SequenceContext } from './samplers/processor.js';
import { inRange } from './samplers/processor.js';
import { checkSeed, Sampler } from './samplers/sampler.js';
import { type Choice, Sampling, type TokenLogprob } from './steps/sampling.js';

export interface GeneratedPart {
  /** New text, never half a character; may be empty. */
  readonly text: string;
  readonly token: number;
  readonly logprob: number;
  /** With `topLogprobs`: the likeliest tokens in its place, and 1 + the number of likelier ones. */
  readonly top?: readonly TokenLogprob[];
  readonly rank?: number;
}

export type FinishReason = 'stop' | 'length' | 'abort';

/** One of the sequences that a search returns. */
export interface Hypothesis<T = unknown> {
  readonly text: string;
  /** New tokens, an end token included. */
  readonly tokens: readonly number[];
  /** Of each token under the raw logits. */
  readonly logprobs: readonly number[];
  /** By which the search compares; of a beam search the sum of the log-probabilities divided by length^lengthPenalty. */
  readonly score: number;
  /** With `topLogprobs`: of each token. */
  readonly alternatives?: readonly Alternatives[];
  /** With `jsonSchema`: the value of the text, if it came to its end and a zod type does not refuse it. */
  readonly json?: T;
}

/** How well a drafter guessed. */
export interface SpeculationStatistics {
  /** Steps of the model behind the prompt. */
  readonly steps: number;
  readonly drafted: number;
  /** Guesses that held. */
  readonly accepted: number;
}

/** What was put in, as the model saw it. Of an encoder-decoder: the beginning of the decoder's text. */
export interface EchoedPrompt {
  readonly text: string;
  readonly tokens: readonly number[];
  /** Under the raw logits; null: the first token has nothing before it. */
  readonly logprobs: readonly (number | null)[];
  /** With `topLogprobs`. */
  readonly alternatives?: readonly (Alternatives | null)[];
}

/** What else might have stood in a token's place. */
export interface Alternatives {
  /** 1 + the number of likelier tokens. */
  readonly rank: number;
  readonly top: readonly TokenLogprob[];
}

export interface ContinuationOptions<T = unknown> extends SamplerOptions, ConstraintOptions<T> {
  /** New tokens at most. Default: as many as the context holds. */
  maxTokens?: number;
  /**
   * Default: made from the options of SamplerOptions, in their order; greedy where neither a temperature nor a filter is given.
   * Only `seed` goes together with it.
   */
  sampler?: Sampler;
  /** So many of the likeliest tokens in the place of each new one, 0 to 1024, and its rank. Default: neither. */
  topLogprobs?: number;
  /** Also the prompt's own tokens, and how likely each was behind those before it: `prompt` of the result. Default false. */
  echo?: boolean;
  /** Texts that end the generation; they are not given out. */
  stop?: string | readonly string[];
  /** Further token ids that end the generation. */
  stopTokens?: readonly number[];
  /** Go on after the model's own end tokens. Default false. */
  ignoreEos?: boolean;
}

/** What a continuation needs of its model. */
export interface ContinuationHost {
  readonly tokenizer: Tokenizer;
  readonly endIds: ReadonlySet<number>;
  readonly contextLength: number;
  readonly vocabSize: number;
}

const MOST_TOP = 1024;

export class Continuation {
  readonly tokens: number[] = [];
  readonly logprobs: number[] = [];
  readonly sampling: Sampling;
  readonly maxTokens: number;
  /** Likeliest tokens that were asked for. */
  readonly top: number | undefined;
  /** Of each new token, if they were. */
  readonly alternatives: Alternatives[] = [];
  /** Every token of the prompt but the first, once it was read for an echo. */
  echoed: readonly ScoredToken[] | null = null;
  text = '';
  finishReason: FinishReason = 'abort';
  /** Of a search, best first. */
  hypotheses: readonly Hypothesis[] | null = null;
  /** Of speculative decoding. */
  speculation: SpeculationStatistics | null = null;
  readonly endTokens: ReadonlySet<number>;
  readonly tokenizer: Tokenizer;
  readonly #context: SequenceContext;
  readonly #decoder: StreamDecoder;
  readonly #constraint: Constraint | null;
  readonly #stops: StopStrings;
  readonly #stopTexts: readonly string[];
  readonly #echo: boolean;

  /** @throws SwitchyardError ERR_OPTION or ERR_CONTEXT_LENGTH for a prompt or options that cannot be run */
  constructor(
    host: ContinuationHost,
    readonly prompt: readonly number[],
    options: ContinuationOptions,
  ) {
    this.maxTokens = roomFor(prompt.length, options.maxTokens, host.contextLength);
    const { stopTokens = [], ignoreEos = false, stop = [], topLogprobs, echo = false } = options;
    if (typeof echo !== 'boolean')
      throw mismatch('ERR_OPTION', 'generate', `echo ${String(echo)}`, 'true or false');
    this.#echo = echo;
    this.top = topLogprobs;
    if (topLogprobs !== undefined)
      inRange('topLogprobs', topLogprobs, { from: 0, to: Math.min(MOST_TOP, host.vocabSize), whole: true });
    this.endTokens = new Set([...stopTokens, ...(ignoreEos ? [] : host.endIds)]);
    this.tokenizer = host.tokenizer;
    const seed = options.seed === undefined ? undefined : checkSeed(options.seed);
    this.#context = { endIds: this.endTokens, vocabSize: host.vocabSize, tokenizer: host.tokenizer };
    this.#constraint = constraintOf(options);
    this.sampling = new Sampling(withConstraint(chosenSampler(options), this.#constraint), prompt, {
      context: this.#context,
      ...(seed === undefined ? {} : { seed }),
    });
    this.#decoder = new StreamDecoder(host.tokenizer, { skipSpecialTokens: true });
    this.#stopTexts = [stop].flat();
    this.#stops = new StopStrings(this.#stopTexts);
    if (this.maxTokens === 0) this.finishReason = 'length';
  }

  /**
   * The value of a text that was to be JSON, once it has come to its end token; else undefined.
   * @throws SwitchyardError ERR_FORMAT for a text that is no value of a zod type, which may ask more than a schema can say
   */
  get json(): unknown {
    if (!this.#constraint || !this.endTokens.has(this.tokens.at(-1) as number)) return undefined;
    return finishedValue(this.#constraint, this.text);
  }

  /** Whether a grammar says what the text may be. */
  get constrained(): boolean {
    return this.#constraint !== null;
  }

  /** Whether the prompt has to be read for its echo. */
  get wantsEcho(): boolean {
    return this.#echo && this.echoed === null;
  }

  /** null: none was asked for. */
  get echo(): EchoedPrompt | null {
    const { prompt: tokens, echoed } = this;
    if (!echoed) return null;
    const text = this.tokenizer.decode([...tokens], { skipSpecialTokens: true });
    const logprobs = [null, ...echoed.map(({ logprob }) => logprob)];
    const alternatives = [null, ...echoed.map(({ rank, top }) => ({ rank, top }))];
    return { text, tokens, logprobs, ...(this.top === undefined ? {} : { alternatives }) };
  }

  get finished(): boolean {
    return this.finishReason !== 'abort';
  }

  /** What the options forbid, force and weigh, without a choice: for a search; null: nothing. */
  edits(): Sampling | null {
    const { processors } = this.sampling.sampler;
    const edits = processors.filter(({ name }) => name !== 'greedy');
    if (edits.length === 0) return null;
    return new Sampling(new Sampler(edits), this.prompt, { context: this.#context });
  }

  /** Lets go of a grammar: nothing is chosen any more. */
  close(): void {
    for (const { close } of this.sampling.sampler.processors) close?.();
  }

  /** Notes the next token and says whether it is the last one, as far as tokens tell: a stop string may still end it. */
  take(choice: Choice): boolean {
    const { token, logprob } = choice;
    this.sampling.take(choice);
    this.tokens.push(token);
    this.logprobs.push(logprob);
    if (this.top !== undefined) this.alternatives.push({ rank: choice.rank ?? 0, top: choice.top ?? [] });
    if (this.endTokens.has(token)) this.finishReason = 'stop';
    else if (this.tokens.length >= this.maxTokens) this.finishReason = 'length';
    return this.finished;
  }

  /** What new tokens say, up to an end token or a stop string, and its value as JSON if it is one. */
  read(tokens: readonly number[]): { text: string; json?: unknown } {
    const ends = this.endTokens.has(tokens.at(-1) as number);
    const all = this.tokenizer.decode(ends ? tokens.slice(0, -1) : tokens, { skipSpecialTokens: true });
    const { text, stopped } = new StopStrings(this.#stopTexts).push(all);
    if (stopped || !ends || !this.#constraint) return { text: stopped ? text : all };
    try {
      const json = finishedValue(this.#constraint, all);
      return json === undefined ? { text: all } : { text: all, json };
    } catch {
      return { text: all }; // a zod type may ask more than a schema can say
    }
  }

  /** Whether the text of new tokens holds a stop string. */
  stopped(tokens: readonly number[]): boolean {
    if (this.#stopTexts.length === 0) return false;
    const text = this.tokenizer.decode([...tokens], { skipSpecialTokens: true });
    return new StopStrings(this.#stopTexts).push(text).stopped;
  }

  /** The text of the token taken last; after it `finished` is final. */
  decode(): GeneratedPart {
    const token = this.tokens.at(-1) as number;
    const last = this.finished;
    const piece = this.finishReason === 'stop' ? '' : this.#decoder.push(token);
    let { text, stopped } = this.#stops.push(last ? piece + this.#decoder.flush() : piece);
    if (stopped) this.finishReason = 'stop';
    else if (last) text += this.#stops.flush();
    this.text += text;
    return { text, token, logprob: this.logprobs.at(-1) as number, ...this.alternatives.at(-1) };
  }
}

/** New tokens at most. */
function roomFor(promptTokens: number, wanted: number | undefined, contextLength: number): number {
  if (promptTokens === 0)
    throw new SwitchyardError('ERR_OPTION', '[generate] got a prompt without tokens, expected at least one');
  const room = contextLength - promptTokens;
  if (room < 1) {
    throw new SwitchyardError(
      'ERR_CONTEXT_LENGTH',
      `[generate] got a prompt of ${promptTokens} tokens, expected fewer than the context of ${contextLength}`,
      { hint: 'shorten the prompt, or load the model with a larger contextLength' },
    );
  }
  const maxTokens = wanted ?? room;
  if (!Number.isInteger(maxTokens) || maxTokens < 0)
    throw new SwitchyardError(
      'ERR_OPTION',
      `[generate] got maxTokens ${maxTokens}, expected a whole number ≥ 0`,
    );
  return Math.min(maxTokens, room);
}

/** Options that say how tokens are chosen. */
export const CHOICE_OPTIONS = ['sampler', ...SAMPLER_OPTIONS, ...CONSTRAINT_OPTIONS] as const;

function chosenSampler(options: ContinuationOptions): Sampler {
  const { sampler } = options;
  const short = SAMPLER_OPTIONS.filter((name) => options[name] !== undefined);
  if (sampler === undefined) return samplerOf(Object.fromEntries(short.map((name) => [name, options[name]])));
  if (!(sampler instanceof Sampler))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[generate] got sampler ${String(sampler)}, expected one of samplers`,
    );
  const other = short.find((name) => name !== 'seed');
  if (other === undefined) return sampler;
  throw new SwitchyardError('ERR_OPTION', `[generate] got sampler and ${other}, expected one of them`, {
    hint: `put the sampler of ${other} into the chain: samplers.chain([…])`,
  });
}

/** A constraint stands before all else, so that filters see only what is allowed. */
const withConstraint = (sampler: Sampler, constraint: Constraint | null): Sampler =>
  constraint ? new Sampler([constrained(constraint.spec), ...sampler.processors], sampler.seed) : sampler;
