/** Only tokens that a grammar allows stay. */
import { SwitchyardError } from '../../core/errors.js';
import type { GrammarSpec } from '../constrain/grammar.js';
import {
  type CompiledGrammar,
  compiledGrammar,
  GrammarUse,
  type MatcherState,
} from '../constrain/grammar-engine.js';
import type { ChainBatch } from './chain-batch.js';
import type { Processor, RunningProcessor, SequenceContext, TakenToken } from './processor.js';

/** For the front of a chain, so that filters see what is allowed; of one text, whose sequences each follow the grammar. */
export function constrained(spec: GrammarSpec): Processor {
  let use: GrammarUse | null = null;
  return {
    name: spec.type === 'json' ? 'jsonSchema' : spec.type,
    readsHistory: false,
    start(context) {
      use ??= new GrammarUse(grammarFor(spec, context));
      return new Constrained(use, [], use.grammar.state([]));
    },
    close: () => use?.release(),
  };
}

function grammarFor(spec: GrammarSpec, { tokenizer, vocabSize, endIds }: SequenceContext): CompiledGrammar {
  if (!tokenizer || vocabSize === undefined)
    throw new SwitchyardError('ERR_OPTION', '[grammar] got no tokenizer, expected one');
  if (endIds.size === 0)
    throw new SwitchyardError(
      'ERR_OPTION',
      '[grammar] got a text without end tokens, expected one that can end',
      {
        hint: 'leave ignoreEos out, or give stopTokens',
      },
    );
  return compiledGrammar(
    spec,
    tokenizer,
    vocabSize,
    [...endIds].sort((a, b) => a - b),
  );
}

class Constrained implements RunningProcessor {
  readonly #tokens: number[];
  #asked: Promise<MatcherState>;
  /** null: not yet answered. */
  #state: MatcherState | null = null;
  /** Until the mask of the next token is there. */
  pending: Promise<void> | null;

  /** @param asked what may stand behind the tokens */
  constructor(
    readonly use: GrammarUse,
    tokens: readonly number[],
    asked: Promise<MatcherState>,
    state: MatcherState | null = null,
  ) {
    this.#tokens = [...tokens];
    this.#asked = asked;
    this.#state = state;
    this.pending = state ? null : this.#wait();
  }

  write(chain: ChainBatch): void {
    const { mask } = this.#known();
    if (mask) chain.begin('tokenMask').list(mask).end();
  }

  take({ token }: TakenToken): void {
    if (this.#state && !this.#state.mask) return; // the text is complete
    this.#tokens.push(token);
    this.#asked = this.use.grammar.state(this.#tokens);
    this.#state = null;
    this.pending = this.#wait();
  }

  allows(token: number): boolean {
    const { mask } = this.#known();
    return mask !== null && (((mask[token >> 5] ?? 0) >> (token & 31)) & 1) === 1;
  }

  forced(): Promise<string> {
    return this.use.grammar.forced(this.#tokens);
  }

  fork(): Constrained {
    return new Constrained(this.use, this.#tokens, this.#asked, this.#state);
  }

  #known(): MatcherState {
    if (this.#state) return this.#state;
    throw new SwitchyardError(
      'ERR_OPTION',
      '[grammar] got a step before the mask was there, expected to wait for `pending`',
    );
  }

  /** Who waits for the mask learns of a failure; nobody has to. */
  #wait(): Promise<void> {
    const asked = this.#asked;
    const token = this.#tokens.at(-1);
    const waited = asked.then((state) => {
      if (!state.accepted) throw refused(token);
      if (this.#asked !== asked) return;
      this.#state = state;
      this.pending = null;
    });
    waited.catch(() => undefined);
    return waited;
  }
}

const refused = (token: number | undefined): SwitchyardError =>
  new SwitchyardError('ERR_OPTION', `[grammar] got token ${token}, expected one that the grammar allows`, {
    hint: 'forced tokens must agree with the grammar',
  });
