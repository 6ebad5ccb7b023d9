/** Who guesses: the text itself, or a smaller model. */
import { checkOptions, checkWhole, mismatch, SwitchyardError } from '../../core/errors.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import type { Lane } from '../steps/lane.js';
import type { Scheduler } from '../steps/scheduler.js';
import { draftHead, mtp } from './draft-head.js';
import { grammarDraft } from './grammar-drafter.js';
import { checkDrafter, type Draft, type DraftContext, type Drafter } from './speculative.js';

export interface NgramOptions {
  /** Guesses in one step. Default 8. */
  tokens?: number;
  /** Last tokens that must have stood together before, longest first. Default 4 to 2. */
  longest?: number;
  shortest?: number;
}

/**
 * Prompt lookup (Saxena 2023; Yang et al. 2023): what followed the last few tokens when they stood together before. Costs no
 * model; good where a text quotes, edits or repeats.
 */
export function ngram(options: NgramOptions = {}): Drafter {
  checkOptions('ngram', options, ['tokens', 'longest', 'shortest']);
  const { tokens = 8, longest = 4, shortest = Math.min(2, longest) } = options;
  checkWhole('ngram', 'shortest', shortest, 1);
  checkWhole('ngram', 'longest', longest, shortest);
  const propose = ({ tokens: text, most }: DraftContext): readonly number[] => {
    for (let n = Math.min(longest, text.length - 1); n >= shortest; n--) {
      const at = before(text, n);
      if (at >= 0) return text.slice(at, at + most);
    }
    return [];
  };
  const draft: Draft = { propose, close: async () => undefined };
  return checkDrafter({ name: 'ngram', tokens, start: () => draft });
}

/** Behind the latest earlier place of the last n tokens; -1: they are new. */
function before(text: readonly number[], n: number): number {
  const end = text.length - n;
  for (let at = end - 1; at >= 0; at--) {
    let same = 0;
    while (same < n && text[at + same] === text[end + same]) same++;
    if (same === n) return at + n;
  }
  return -1;
}

/** What a draft model must have. */
export interface DraftingModel {
  readonly config: { readonly vocabSize: number };
  readonly tokenizer: Tokenizer;
  readonly scheduler: Scheduler;
}

export interface DraftModelOptions {
  /** Guesses in one step. Default 4. */
  tokens?: number;
}

/** A smaller model with the same vocabulary; it samples as the large one does, with the same random numbers. */
export function draftModel(model: DraftingModel, options: DraftModelOptions = {}): Drafter {
  checkOptions('draftModel', options, ['tokens']);
  const { tokens = 4 } = options;
  return checkDrafter({
    name: 'draftModel',
    tokens,
    start(run) {
      checkVocabulary(model, run.continuation.tokenizer, run.scheduler.engine.model.vocabSize);
      const lane = model.scheduler.open({ ...run.laneOptions, routing: false });
      return new ModelDraft(model, lane, run.continuation.endTokens);
    },
  });
}

class ModelDraft implements Draft {
  constructor(
    readonly model: DraftingModel,
    readonly lane: Lane,
    readonly endTokens: ReadonlySet<number>,
  ) {}

  async propose(context: DraftContext): Promise<readonly number[]> {
    const { vocabSize } = this.model.config;
    const room = Math.min(context.most, this.model.scheduler.engine.contextLength - context.tokens.length);
    if (room < 1 || context.tokens.some((id) => id >= vocabSize)) return [];
    const guesses: number[] = [];
    try {
      await this.#guess(context, room, guesses);
    } catch (error) {
      // without room in its cache it guesses less
      if (!(error instanceof SwitchyardError) || error.code !== 'ERR_CONTEXT_LENGTH') throw error;
    }
    return guesses;
  }

  async #guess({ tokens, sampling }: DraftContext, room: number, guesses: number[]): Promise<void> {
    // the last token is fed always: what is chosen behind it is the first guess
    let same = Math.min(this.lane.tokens.length, tokens.length - 1);
    for (let i = 0; i < same; i++) if (this.lane.tokens[i] !== tokens[i]) same = i;
    this.lane.truncate(same);
    let own = sampling.fork();
    let fed = tokens.slice(same);
    while (guesses.length < room) {
      const { results } = await this.lane.feed(fed, { sampling: own });
      const [choice] = results;
      if (!choice || choice.token < 0) break;
      guesses.push(choice.token);
      if (this.endTokens.has(choice.token)) break;
      fed = [choice.token];
      own = own.fork();
      own.take(choice);
    }
  }

  close(): Promise<void> {
    return this.lane.close();
  }
}

/** Ids must mean the same to both models; those that only one has are padding. */
function checkVocabulary({ config, tokenizer }: DraftingModel, other: Tokenizer, vocabSize: number): void {
  if (tokenizer === other) return;
  for (let id = 0; id < Math.min(config.vocabSize, vocabSize); id++) {
    const [a, b] = [tokenizer.idToToken(id), other.idToToken(id)];
    if (a !== b)
      throw mismatch(
        'ERR_OPTION',
        'draftModel',
        `token '${a}' for id ${id}`,
        `'${b}', as in the vocabulary of the model`,
      );
  }
}

/** Each guesses where those before it have no guess. */
export function firstOf(drafters: readonly Drafter[]): Drafter {
  if (!Array.isArray(drafters) || drafters.length === 0)
    throw mismatch('ERR_OPTION', 'firstOf', String(drafters), 'an array of drafters');
  const all = drafters.map(checkDrafter);
  return checkDrafter({
    name: `firstOf(${all.map(({ name }) => name).join(', ')})`,
    tokens: Math.max(...all.map(({ tokens }) => tokens)),
    readsHidden: all.some(({ readsHidden }) => readsHidden === true),
    start(run) {
      const drafts: Draft[] = [];
      const close = async (): Promise<void> => {
        await Promise.all(drafts.map((draft) => draft.close()));
      };
      try {
        for (const drafter of all) drafts.push(drafter.start(run));
      } catch (error) {
        void close();
        throw error;
      }
      const propose = async (context: DraftContext): Promise<readonly number[]> => {
        for (const [i, draft] of drafts.entries()) {
          const most = Math.min(context.most, (all[i] as Drafter).tokens);
          const guesses = await draft.propose({ ...context, most });
          if (guesses.length > 0) return guesses;
        }
        return [];
      };
      return { propose, close };
    },
  });
}

/** All of them under one name, for `import { drafters }`. */
export const drafters = {
  ngram,
  model: draftModel,
  head: draftHead,
  mtp,
  grammar: grammarDraft,
  firstOf,
} as const;
