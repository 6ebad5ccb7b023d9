/**
 * Guesses what a grammar forces (jump-forward decoding, Zheng et al. 2024, SGLang, section 4): keys, quotes, separators. Text that
 * is forced may be cut into tokens in several ways, and which one the model chooses is not: so the tokens are guesses, which one
 * step checks, and the text stays that of plain constrained decoding.
 */
import { checkOptions, mismatch } from '../../core/errors.js';
import type { Tokenizer } from '../../text/tokenizer.js';
import { checkDrafter, type DraftContext, type Drafter } from './speculative.js';

export interface GrammarDraftOptions {
  /** Guesses in one step. Default 8. */
  tokens?: number;
}

/** Tokens before the forced text with which it is cut. */
const BEFORE = 4;
/** Characters of forced text for each guess that may be made. */
const CHARACTERS = 16;

export function grammarDraft(options: GrammarDraftOptions = {}): Drafter {
  checkOptions('grammar', options, ['tokens']);
  const { tokens = 8 } = options;
  return checkDrafter({
    name: 'grammar',
    tokens,
    start({ continuation }) {
      if (!continuation.constrained)
        throw mismatch(
          'ERR_OPTION',
          'generate',
          'drafters.grammar() without a grammar',
          'jsonSchema, regex or grammar',
        );
      const { tokenizer } = continuation;
      return {
        async propose({ tokens: text, sampling, most }: DraftContext) {
          await sampling.pending;
          const forced = [...(await sampling.forced())].slice(0, CHARACTERS * most).join('');
          return forced === '' ? [] : tokensBehind(tokenizer, text.slice(-BEFORE), forced).slice(0, most);
        },
        close: async () => undefined,
      };
    },
  });
}

/** The tokens of a text behind others: as they stand in the whole where it has a cut between both, else by themselves. */
export function tokensBehind(tokenizer: Tokenizer, before: readonly number[], text: string): number[] {
  const start = tokenizer.decode([...before]);
  const whole = tokenizer.encode(start + text, { addSpecialTokens: false });
  for (let cut = 0; cut < whole.length; cut++)
    if (tokenizer.decode(whole.slice(0, cut)) === start) return whole.slice(cut);
  return tokenizer.encode(text, { addSpecialTokens: false });
}
