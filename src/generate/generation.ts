/** One running generation: an async iterable of parts, and a promise of the whole. */
import type { Device } from '../core/device.js';
import { checkOptions, checkWhole, mismatch, SwitchyardError } from '../core/errors.js';
import { type LoadStatistics, statisticsOfLoad } from '../moe/statistics.js';
import {
  type Alternatives,
  CHOICE_OPTIONS,
  Continuation,
  type ContinuationHost,
  type ContinuationOptions,
  type EchoedPrompt,
  type FinishReason,
  type GeneratedPart,
  type Hypothesis,
  type SpeculationStatistics,
} from './continuation.js';
import { routingLines } from './debug.js';
import { Run, type Strategy } from './run.js';
import type { Answer, LaneOptions } from './steps/lane.js';
import type { Memory } from './steps/memory.js';
import type { Scheduler } from './steps/scheduler.js';
import { STRATEGY_OPTIONS, type StrategyOptions, strategyOf } from './strategy.js';

export interface GenerateOptions<T = unknown> extends ContinuationOptions<T>, StrategyOptions {
  signal?: AbortSignal;
  /** Requests of a higher priority run first; others wait, or give their room up and read their text again. Default 0. */
  priority?: number;
  /**
   * Requests with the same salt read what one of them computed of a text that they begin with; null: this one shares nothing.
   * Use one for each tenant where nobody may learn from the time taken what others asked. Default ''.
   */
  cacheSalt?: string | null;
  /**
   * The first so many tokens of the prompt see each other in both directions (prefix language models, Raffel et al. 2020); they
   * are read in one step and share no blocks. Default 0.
   */
  prefixLength?: number;
  /** Gather which experts the tokens met. Default false. */
  routing?: boolean;
}

export const GENERATE_OPTIONS = [
  'maxTokens',
  ...CHOICE_OPTIONS,
  'topLogprobs',
  'echo',
  'stop',
  'stopTokens',
  'ignoreEos',
  'signal',
  'priority',
  'cacheSalt',
  'prefixLength',
  ...STRATEGY_OPTIONS,
  'routing',
] as const;

export interface Timings {
  /** Of an encoder-decoder, those of the encoder's text and of the decoder's beginning. */
  readonly promptTokens: number;
  readonly promptMs: number;
  readonly newTokens: number;
  /** From the first new token to the last. */
  readonly decodeMs: number;
  readonly promptTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

export interface GenerationResult<T = unknown> {
  readonly text: string;
  /** New tokens, an end token included. */
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
  /** With `topLogprobs`: of each new token its rank (1: none is likelier) and the likeliest tokens in its place. */
  readonly alternatives?: readonly Alternatives[];
  /** With `echo`. */
  readonly prompt?: EchoedPrompt;
  readonly finishReason: FinishReason;
  /** With `jsonSchema`: the value of the text, if it came to its end. */
  readonly json?: T;
  /** What a search returns, best first; the best one is `text` and `tokens`. */
  readonly hypotheses?: readonly Hypothesis<T>[];
  /** With `speculation`. */
  readonly speculation?: SpeculationStatistics;
  readonly timings: Timings;
  /** Load of each sparse layer over prompt and new tokens, if `routing` was asked for. */
  readonly routing?: readonly LoadStatistics[];
}

/** What one of several generations gives. */
export type Outcome<T = unknown> = Omit<GenerationResult<T>, 'timings' | 'routing'>;

/** What a continuation has come to. */
export const outcomeOf = ({
  text,
  tokens,
  logprobs,
  finishReason,
  hypotheses,
  speculation,
  json,
  top,
  alternatives,
  echo,
}: Continuation): Outcome => ({
  text,
  tokens,
  logprobs,
  finishReason,
  ...(json === undefined ? {} : { json }),
  ...(top === undefined ? {} : { alternatives }),
  ...(echo ? { prompt: echo } : {}),
  ...(hypotheses ? { hypotheses } : {}),
  ...(speculation ? { speculation } : {}),
});

/** What a generation needs of its model. */
export interface GenerationHost extends ContinuationHost {
  readonly device: Device;
  readonly scheduler: Scheduler;
  readonly nExperts: number;
  /** Encodes the text of a prompt, given by its number, for the decoder to attend over; absent where there is no encoder. */
  remember?(prompt: number): Promise<Memory>;
  /** Tokens of that text. */
  rememberedTokens?(prompt: number): number;
}

/** @throws SwitchyardError ERR_OPTION */
export function laneOptions(options: GenerateOptions, promptTokens: number, routing = false): LaneOptions {
  const { priority = 0, cacheSalt = '', prefixLength = 0, echo = false } = options;
  if (!Number.isFinite(priority))
    throw mismatch('ERR_OPTION', 'generate', `priority ${String(priority)}`, 'a number');
  if (cacheSalt !== null && typeof cacheSalt !== 'string')
    throw mismatch('ERR_OPTION', 'generate', `cacheSalt ${String(cacheSalt)}`, 'a text or null');
  checkWhole('generate', 'prefixLength', prefixLength, 0);
  if (prefixLength > promptTokens)
    throw mismatch(
      'ERR_OPTION',
      'generate',
      `prefixLength ${prefixLength}`,
      `at most the ${promptTokens} tokens of the prompt`,
    );
  if (echo && prefixLength > 0)
    throw mismatch('ERR_OPTION', 'generate', 'echo together with prefixLength', 'one of them', {
      hint: 'tokens that see what follows them have no likelihood behind what is before them',
    });
  return { priority, salt: cacheSalt, prefixLength, routing };
}

/** Level of SWITCHYARD_DEBUG that prints routing. */
const ROUTING_DEBUG = 3;

/** Starts when it is first iterated or its result is asked for. An early `break` cancels within one step. */
export class Generation<T = unknown> implements AsyncIterable<GeneratedPart> {
  readonly #host: GenerationHost;
  readonly #options: GenerateOptions;
  readonly #continuation: Continuation;
  readonly #load: number[][] = [];
  readonly #routing: boolean;
  readonly #laneOptions: LaneOptions;
  readonly #strategy: Strategy;
  #promptMs = 0;
  #decodeMs = 0;
  #iterator: AsyncGenerator<GeneratedPart> | null = null;
  #done: Promise<void>;
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(host: GenerationHost, prompt: readonly number[], options: GenerateOptions) {
    checkOptions('generate', options, GENERATE_OPTIONS);
    this.#host = host;
    this.#routing = options.routing === true || (host.device.env.debug >= ROUTING_DEBUG && host.nExperts > 0);
    this.#options = options;
    this.#laneOptions = laneOptions(options, prompt.length, this.#routing);
    this.#strategy = strategyOf(options);
    this.#continuation = new Continuation(host, prompt, options);
    this.#done = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#done.catch(() => undefined); // reported to whoever iterates or asks for the result
  }

  [Symbol.asyncIterator](): AsyncGenerator<GeneratedPart> {
    if (this.#iterator)
      throw new SwitchyardError(
        'ERR_OPTION',
        '[generate] got a second iteration of one generation, expected one',
        { hint: 'call generate again, or use result()' },
      );
    this.#iterator = this.#run();
    return this.#iterator;
  }

  /** Runs to the end (or waits for the iteration to end) and returns the whole. */
  async result(): Promise<GenerationResult<T>> {
    if (!this.#iterator) for await (const _ of this);
    await this.#done;
    const read = this.#host.rememberedTokens?.(0) ?? 0;
    const { prompt, tokens } = this.#continuation;
    const rate = (n: number, ms: number): number => (ms > 0 ? (1000 * n) / ms : 0);
    return {
      ...(outcomeOf(this.#continuation) as Outcome<T>),
      timings: {
        promptTokens: read + prompt.length,
        promptMs: this.#promptMs,
        newTokens: tokens.length,
        decodeMs: this.#decodeMs,
        promptTokensPerSecond: rate(read + prompt.length, this.#promptMs),
        decodeTokensPerSecond: rate(tokens.length - 1, this.#decodeMs),
      },
      ...(this.#options.routing ? { routing: this.#load.map((load) => statisticsOfLoad(load)) } : {}),
    };
  }

  async *#run(): AsyncGenerator<GeneratedPart> {
    const { scheduler, device } = this.#host;
    const started = performance.now();
    let first = 0;
    const answered = (answer: Answer): void => {
      const now = performance.now();
      if (first === 0) {
        first = now;
        this.#promptMs = now - started;
      }
      this.#decodeMs = now - first;
      this.#count(answer);
    };
    const remember = this.#host.remember ? () => this.#host.remember?.(0) as Promise<Memory> : null;
    const run = new Run(
      scheduler,
      this.#continuation,
      this.#laneOptions,
      this.#options.signal,
      remember,
      answered,
    );
    let failure: unknown = null;
    try {
      yield* run.follow(this.#strategy);
    } catch (error) {
      failure = error;
      throw error;
    } finally {
      if (device.env.debug >= ROUTING_DEBUG && this.#load.length > 0) {
        process.stderr.write(routingLines(this.#load.map((load) => statisticsOfLoad(load))));
      }
      if (failure) this.#settle.reject(failure);
      else this.#settle.resolve();
    }
  }

  #count({ experts }: Answer): void {
    for (const step of experts)
      step.forEach((ids, layer) => {
        this.#load[layer] ??= new Array<number>(this.#host.nExperts).fill(0);
        const load = this.#load[layer];
        for (const e of ids) if (e >= 0) load[e] = (load[e] as number) + 1;
      });
  }
}
