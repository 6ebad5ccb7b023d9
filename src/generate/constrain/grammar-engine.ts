/** Grammars at work: each in a worker of its own, which compiles it within a bound of time and says what may follow a text. */
import { createRequire } from 'node:module';
import { Worker } from 'node:worker_threads';
import { SwitchyardError } from '../../core/errors.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import { COMPILE_MS, type GrammarSpec, PARSE_MS } from './grammar.js';
import { vocabularyOf } from './vocabulary.js';
import { WORKER_SOURCE } from './worker-source.js';

/** What the next token may be. */
export interface MatcherState {
  /** Whether the grammar allows the tokens. */
  readonly accepted: boolean;
  /** i32 words, 32 tokens each; null: the text is complete. */
  readonly mask: Int32Array | null;
}

/** Milliseconds for the engine to start and read the vocabulary. */
const START_MS = 30_000;
/** Milliseconds that the answer behind one text may take. */
const TOKEN_MS = 5_000;
/** Grammars that stay compiled for a tokenizer while nobody uses them. */
const KEPT = 4;

interface Waiting {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

export class CompiledGrammar {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ready: Promise<void>;
  #calls = 0;
  #failure: SwitchyardError | null = null;
  /** Texts that use it. */
  users = 0;

  constructor(
    readonly spec: GrammarSpec,
    tokenizer: Tokenizer,
    vocabSize: number,
    endIds: readonly number[],
  ) {
    const enginePath = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar');
    this.#worker = new Worker(WORKER_SOURCE, {
      eval: true,
      workerData: { enginePath, ...vocabularyOf(tokenizer, vocabSize), vocabSize, endIds: [...endIds] },
      resourceLimits: { maxOldGenerationSizeMb: 512 },
    });
    let started: Waiting | null = null;
    const start = new Promise<unknown>((resolve, reject) => {
      started = { resolve, reject };
    });
    this.#worker.on(
      'message',
      (message: { ready?: boolean; call?: number; result?: unknown; error?: string }) => {
        const waiting = message.ready === undefined ? this.#waiting.get(message.call as number) : started;
        this.#waiting.delete(message.call as number);
        if (message.error === undefined) waiting?.resolve(message.result);
        else waiting?.reject(refused(this.spec, message.error));
      },
    );
    const end = (error: unknown): void => {
      const failure = refused(this.spec, error instanceof Error ? error.message : 'the engine ended');
      started?.reject(failure);
      this.#fail(failure);
    };
    this.#worker.on('error', end);
    this.#worker.on('exit', () => end(null));
    this.#worker.unref(); // whoever waits for an answer has a timer
    this.#ready = this.#inTime(start, START_MS).then(async () => {
      await this.#inTime(this.#call('parse', spec), PARSE_MS);
      await this.#inTime(this.#call('compile', null), COMPILE_MS);
    });
    this.#ready.catch((error) => this.#fail(error));
  }

  /** Whether it can be asked; a grammar that failed is compiled anew by whoever wants it. */
  get usable(): boolean {
    return this.#failure === null;
  }

  /** What may stand behind tokens; texts that are asked about in turn cost a few of their last tokens. */
  async state(tokens: readonly number[]): Promise<MatcherState> {
    return (await this.#ask('state', tokens)) as MatcherState;
  }

  /** The text that must stand behind tokens; often none. */
  async forced(tokens: readonly number[]): Promise<string> {
    return (await this.#ask('forced', tokens)) as string;
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }

  async #ask(what: 'state' | 'forced', tokens: readonly number[]): Promise<unknown> {
    const words = Int32Array.from(tokens); // of now
    await this.#ready;
    return this.#inTime(this.#call(what, { tokens: words }), TOKEN_MS);
  }

  #call(name: string, value: unknown): Promise<unknown> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const call = ++this.#calls;
      this.#waiting.set(call, { resolve, reject });
      this.#worker.postMessage({ call, name, value });
    });
  }

  async #inTime<T>(task: Promise<T>, ms: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const failure = refused(this.spec, `more than ${ms} ms`);
        this.#fail(failure);
        reject(failure);
      }, ms);
    });
    try {
      return await Promise.race([task, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  #fail(error: SwitchyardError): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    void this.#worker.terminate();
  }
}

function refused({ type }: GrammarSpec, why: string): SwitchyardError {
  return new SwitchyardError(
    'ERR_OPTION',
    `[${type === 'json' ? 'jsonSchema' : type}] got ${why}, expected one that compiles`,
    { hint: 'the grammar may be malformed, unsupported or too large' },
  );
}

const kept = new WeakMap<Tokenizer, Map<string, CompiledGrammar>>();

/** A grammar in use by the sequences of one text. */
export class GrammarUse {
  #released = false;

  constructor(readonly grammar: CompiledGrammar) {
    grammar.users++;
    unreleased.register(this, grammar, this);
  }

  release(): void {
    if (this.#released) return;
    this.#released = true;
    unreleased.unregister(this);
    this.grammar.users--;
  }
}

/** Of texts that were never begun. */
const unreleased = new FinalizationRegistry<CompiledGrammar>((grammar) => {
  grammar.users--;
});

/** The grammar for a tokenizer, compiled at its first use; the last few stay. */
export function compiledGrammar(
  spec: GrammarSpec,
  tokenizer: Tokenizer,
  vocabSize: number,
  endIds: readonly number[],
): CompiledGrammar {
  const known = kept.get(tokenizer) ?? new Map<string, CompiledGrammar>();
  kept.set(tokenizer, known);
  const key = JSON.stringify([spec, vocabSize, endIds]);
  const found = known.get(key);
  known.delete(key);
  const grammar = found?.usable ? found : new CompiledGrammar(spec, tokenizer, vocabSize, endIds);
  known.set(key, grammar); // the newest is last
  for (const [old, idle] of known) {
    if (known.size <= KEPT) break;
    if (idle.users > 0 || idle === grammar) continue;
    known.delete(old);
    void idle.stop();
  }
  return grammar;
}
