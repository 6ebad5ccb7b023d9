/** One running generation: an async iterable of parts, and a promise of the whole. */
import type { Device } from '../core/device.js';
import { checkOptions, SwitchyardError } from '../core/errors.js';
import { type LoadStatistics, statisticsOfLoad } from '../moe/statistics.js';
import { StopStrings } from '../text/stop-strings.js';
import { StreamDecoder } from '../text/stream-decoder.js';
import type { Tokenizer } from '../text/tokenizer.js';
import { MAX_CHUNK, type StepEngine, type StepOutput } from './engine.js';
import { type Sampler, type SamplerOptions, samplers } from './sampler.js';

export interface GenerateOptions extends SamplerOptions {
  /** New tokens at most. Default: as many as the context holds. */
  maxTokens?: number;
  /** Default: made from temperature, topK, topP, repetitionPenalty and seed; greedy when none is given. */
  sampler?: Sampler;
  /** Texts that end the generation; they are not given out. */
  stop?: string | readonly string[];
  /** Further token ids that end the generation. */
  stopTokens?: readonly number[];
  /** Go on after the model's own end tokens. Default false. */
  ignoreEos?: boolean;
  signal?: AbortSignal;
  /** Gather which experts the tokens met. Default false. */
  routing?: boolean;
}

export const GENERATE_OPTIONS = [
  'maxTokens',
  'sampler',
  'temperature',
  'topK',
  'topP',
  'repetitionPenalty',
  'seed',
  'stop',
  'stopTokens',
  'ignoreEos',
  'signal',
  'routing',
] as const;

export interface GeneratedPart {
  /** New text, never half a character; may be empty. */
  readonly text: string;
  readonly token: number;
  readonly logprob: number;
}

export type FinishReason = 'stop' | 'length' | 'abort';

export interface Timings {
  readonly promptTokens: number;
  readonly promptMs: number;
  readonly newTokens: number;
  /** From the first new token to the last. */
  readonly decodeMs: number;
  readonly promptTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

export interface GenerationResult {
  readonly text: string;
  /** New tokens, an end token included. */
  readonly tokens: readonly number[];
  readonly logprobs: readonly number[];
  readonly finishReason: FinishReason;
  readonly timings: Timings;
  /** Load of each sparse layer over prompt and new tokens, if `routing` was asked for. */
  readonly routing?: readonly LoadStatistics[];
}

/** What a generation needs of its model. */
export interface GenerationHost {
  readonly device: Device;
  readonly engine: StepEngine;
  readonly tokenizer: Tokenizer;
  readonly endIds: ReadonlySet<number>;
  readonly nExperts: number;
}

/** Starts when it is first iterated or its result is asked for. An early `break` cancels within one step. */
export class Generation implements AsyncIterable<GeneratedPart> {
  readonly #host: GenerationHost;
  readonly #prompt: readonly number[];
  readonly #options: GenerateOptions;
  readonly #sampler: Sampler;
  readonly #maxTokens: number;
  readonly #load: number[][] = [];
  #text = '';
  readonly #tokens: number[] = [];
  readonly #logprobs: number[] = [];
  #finish: FinishReason = 'abort';
  #promptMs = 0;
  #decodeMs = 0;
  #iterator: AsyncGenerator<GeneratedPart> | null = null;
  #done: Promise<void>;
  #settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(host: GenerationHost, prompt: readonly number[], options: GenerateOptions) {
    checkOptions('generate', options, GENERATE_OPTIONS);
    this.#host = host;
    this.#prompt = prompt;
    this.#options = options;
    const room = host.engine.contextLength - prompt.length;
    if (prompt.length === 0)
      throw new SwitchyardError(
        'ERR_OPTION',
        '[generate] got a prompt without tokens, expected at least one',
      );
    if (room < 1) {
      throw new SwitchyardError(
        'ERR_CONTEXT_LENGTH',
        `[generate] got a prompt of ${prompt.length} tokens, expected fewer than the context of ${host.engine.contextLength}`,
        { hint: 'shorten the prompt, or load the model with a larger contextLength' },
      );
    }
    const { maxTokens = room } = options;
    if (!Number.isInteger(maxTokens) || maxTokens < 0)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[generate] got maxTokens ${maxTokens}, expected a whole number ≥ 0`,
      );
    this.#maxTokens = Math.min(maxTokens, room);
    this.#sampler = options.sampler ?? samplerOf(options);
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
  async result(): Promise<GenerationResult> {
    if (!this.#iterator) for await (const _ of this);
    await this.#done;
    const newTokens = this.#tokens.length;
    const rate = (n: number, ms: number): number => (ms > 0 ? (1000 * n) / ms : 0);
    return {
      text: this.#text,
      tokens: this.#tokens,
      logprobs: this.#logprobs,
      finishReason: this.#finish,
      timings: {
        promptTokens: this.#prompt.length,
        promptMs: this.#promptMs,
        newTokens,
        decodeMs: this.#decodeMs,
        promptTokensPerSecond: rate(this.#prompt.length, this.#promptMs),
        decodeTokensPerSecond: rate(newTokens - 1, this.#decodeMs),
      },
      ...(this.#options.routing ? { routing: this.#load.map((load) => statisticsOfLoad(load)) } : {}),
    };
  }

  async *#run(): AsyncGenerator<GeneratedPart> {
    const { engine, tokenizer, device } = this.#host;
    const { signal } = this.#options;
    const abort = device.addon.createAbort();
    const onAbort = (): void => device.addon.abort(abort);
    signal?.addEventListener('abort', onAbort, { once: true });
    const sequence = engine.newSequence();
    const decoder = new StreamDecoder(tokenizer, { skipSpecialTokens: true });
    const stops = new StopStrings([this.#options.stop ?? []].flat());
    let pending: Promise<StepOutput> | null = null;
    let failure: unknown = null;
    const step = (tokens: readonly number[], sampler: Sampler | null): Promise<StepOutput> => {
      const history = sampler && sampler.repetitionPenalty !== 1 ? [...this.#prompt, ...this.#tokens] : [];
      const run = engine.step([{ sequence, tokens, sampler, history, drawn: this.#tokens.length }], {
        abort,
        routing: this.#options.routing ?? false,
      });
      run.catch(() => undefined); // awaited later
      return run;
    };
    try {
      signal?.throwIfAborted();
      if (this.#maxTokens === 0) {
        this.#finish = 'length';
        return;
      }
      const started = performance.now();
      let at = 0;
      for (; this.#prompt.length - at > MAX_CHUNK; at += MAX_CHUNK)
        this.#count(await step(this.#prompt.slice(at, at + MAX_CHUNK), null));
      pending = step(this.#prompt.slice(at), this.#sampler);
      let first = 0;
      for (;;) {
        const output = (await pending) as StepOutput;
        pending = null;
        const now = performance.now();
        if (this.#tokens.length === 0) {
          first = now;
          this.#promptMs = now - started;
        }
        this.#decodeMs = now - first;
        this.#count(output);
        const { token, logprob } = output.results[0] as { token: number; logprob: number };
        this.#tokens.push(token);
        this.#logprobs.push(logprob);
        const ended = this.#ends(token);
        const full = this.#tokens.length >= this.#maxTokens;
        // the next step runs while this token is decoded and handed out
        if (!ended && !full) pending = step([token], this.#sampler);
        const piece = ended ? '' : decoder.push(token);
        let { text, stopped } = stops.push(ended || full ? piece + decoder.flush() : piece);
        if ((ended || full) && !stopped) text += stops.flush();
        this.#text += text;
        if (ended || stopped || full) this.#finish = ended || stopped ? 'stop' : 'length';
        yield { text, token, logprob };
        if (ended || stopped || full) return;
      }
    } catch (error) {
      failure = signal?.aborted
        ? new SwitchyardError('ERR_ABORTED', '[generate] got an abort, expected to finish', {
            cause: signal.reason,
          })
        : error;
      throw failure;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      if (pending) {
        device.addon.abort(abort);
        await pending.catch(() => undefined);
      }
      sequence.release();
      if (failure) this.#settle.reject(failure);
      else this.#settle.resolve();
    }
  }

  #ends(token: number): boolean {
    if (this.#options.stopTokens?.includes(token)) return true;
    return !this.#options.ignoreEos && this.#host.endIds.has(token);
  }

  #count(output: StepOutput): void {
    output.experts.forEach((ids, layer) => {
      this.#load[layer] ??= new Array<number>(this.#host.nExperts).fill(0);
      const load = this.#load[layer];
      for (const e of ids) if (e >= 0) load[e] = (load[e] as number) + 1;
    });
  }
}

function samplerOf({ temperature, topK, topP, repetitionPenalty, seed }: GenerateOptions): Sampler {
  const given = Object.fromEntries(
    Object.entries({ temperature, topK, topP, repetitionPenalty, seed }).filter(([, v]) => v !== undefined),
  ) as SamplerOptions;
  const sampled =
    (temperature ?? 0) > 0 || (temperature === undefined && (topK !== undefined || topP !== undefined));
  return sampled ? samplers.sample(given) : samplers.sample({ ...given, temperature: 0, seed: 0 });
}
