/** Only tokens that a grammar allows stay. */
import { SwitchyardError } from '../../core/errors.js';
import type { GrammarSpec } from '../constrain/grammar.js';
import { type CompiledGrammar, compiledGrammar } from '../constrain/grammar-engine.js';
import type { ChainBatch } from './chain-batch.js';
import type { Processor, RunningProcessor, SequenceContext, TakenToken } from './processor.js';

/** For the front of a chain, so that filters see what is allowed. Its state is the sequence's own. */
export const constrained = (spec: GrammarSpec): Processor => ({
  name: spec.type === 'json' ? 'jsonSchema' : spec.type,
  readsHistory: false,
  needsChosen: true,
  start(context) {
    return new Constrained(grammarFor(spec, context), []);
  },
});

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

/** Matchers of sequences that nobody holds any more are let go of. */
const left = new FinalizationRegistry<{ grammar: CompiledGrammar; id: number }>(({ grammar, id }) => {
  grammar.close(id);
});

class Constrained implements RunningProcessor {
  readonly #grammar: CompiledGrammar;
  readonly #tokens: number[];
  #matcher = 0;
  #mask: Int32Array | null = null;
  #ended = false;
  /** Until the mask of the next token is there. */
  pending: Promise<void> | null;

  constructor(grammar: CompiledGrammar, tokens: readonly number[], ended = false) {
    this.#grammar = grammar;
    this.#tokens = [...tokens];
    this.#ended = ended;
    this.pending = ended ? null : this.#settle(this.#start());
  }

  write(chain: ChainBatch): void {
    if (this.pending)
      throw new SwitchyardError(
        'ERR_OPTION',
        '[grammar] got a step before the mask was there, expected to wait for `pending`',
      );
    if (this.#mask) chain.begin('tokenMask').list(this.#mask).end();
  }

  take({ token }: TakenToken): void {
    if (this.#ended) return;
    this.#tokens.push(token);
    this.pending = this.#settle(this.#advance(token, this.pending));
  }

  fork(): Constrained {
    return new Constrained(this.#grammar, this.#tokens, this.#ended);
  }

  async #start(): Promise<void> {
    const tokens = [...this.#tokens];
    const { id, state } = await this.#grammar.matcher(tokens);
    this.#matcher = id;
    left.register(this, { grammar: this.#grammar, id }, this);
    this.#note(state, tokens.at(-1));
  }

  async #advance(token: number, before: Promise<void> | null): Promise<void> {
    await before;
    this.#note(await this.#grammar.take(this.#matcher, token), token);
  }

  #note({ accepted, mask }: { accepted: boolean; mask: Int32Array | null }, token: number | undefined): void {
    if (!accepted)
      throw new SwitchyardError(
        'ERR_OPTION',
        `[grammar] got token ${token}, expected one that the grammar allows`,
        {
          hint: 'forced tokens and drafts must agree with the grammar',
        },
      );
    this.#mask = mask;
    if (mask) return;
    this.#ended = true;
    left.unregister(this);
    this.#grammar.close(this.#matcher);
  }

  /** Who waits for the mask learns of a failure; nobody has to. */
  #settle(task: Promise<void>): Promise<void> {
    const settled: Promise<void> = task.then(() => {
      if (this.pending === settled) this.pending = null;
    });
    settled.catch(() => undefined);
    return settled;
  }
}
