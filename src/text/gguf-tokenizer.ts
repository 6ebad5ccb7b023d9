import { mismatch, SwitchyardError } from '../core/errors.js';
import { PRE_TOKENIZERS, type PreTokenizerRule } from './gguf-pre-tokenizers.js';
import { unigramJson } from './gguf-unigram.js';
import {
  type Converted,
  type GgufTokenizerMetadata,
  prefix,
  readVocabulary,
  TokenType,
  type Vocabulary,
  where,
} from './gguf-vocabulary.js';
import { wordPieceJson } from './gguf-word-piece.js';
import { Tokenizer, type TokenizerFiles } from './tokenizer.js';
import type { NamedTemplate, TokenizerJson, TokenizerModel } from './tokenizer-json.js';

export type { GgufTokenizerMetadata };

/** The tokenizer of a GGUF file. Throws ERR_FORMAT for broken metadata, ERR_UNSUPPORTED for an unknown kind. */
export function tokenizerFromGguf(metadata: GgufTokenizerMetadata, tokenizerJson?: unknown): Tokenizer {
  return Tokenizer.fromFiles(ggufTokenizerFiles(metadata, tokenizerJson));
}

/**
 * GGUF metadata as the files a Hugging Face folder would have.
 * @param tokenizerJson the parsed `tokenizer.huggingface.json`, where the file has one: it is exact
 */
export function ggufTokenizerFiles(metadata: GgufTokenizerMetadata, tokenizerJson?: unknown): TokenizerFiles {
  const kind = metadata.getString(`${prefix}model`, undefined);
  const vocabulary = readVocabulary(metadata);
  const convert = new Map([
    ['gpt2', byteLevelJson],
    ['llama', sentencePieceJson],
    ['bert', wordPieceJson],
    ['t5', unigramJson],
  ]).get(kind ?? '');
  if (convert === undefined) {
    throw mismatch(
      'ERR_UNSUPPORTED',
      where('model'),
      `'${kind}'`,
      "'gpt2' (byte-level BPE), 'llama' (SentencePiece BPE), 'bert' (WordPiece) or 't5' (Unigram)",
    );
  }
  const { json, addBos, addEos, addSep } = convert(metadata, vocabulary);
  const special = (name: string) => {
    const id = metadata.getInt(`${prefix}${name}_token_id`, undefined);
    return id === undefined ? undefined : vocabulary.token(`${name}_token_id`, id);
  };
  const bos = special('bos');
  const eos = special('eos');
  // The key is spelt so.
  const sep = special('seperator');
  const wants = (name: string, otherwise: boolean | undefined): boolean =>
    metadata.getBool(`${prefix}add_${name}_token`, undefined) ?? otherwise ?? false;
  json.post_processor = surround(
    wants('bos', addBos) ? bos : undefined,
    wants('eos', addEos) ? eos : wants('sep', addSep) ? sep : undefined,
    vocabulary.ids,
  );
  return {
    tokenizerJson: tokenizerJson ?? json,
    tokens: vocabulary.tokens,
    tokenizerConfig: {
      bos_token: bos,
      eos_token: eos,
      pad_token: special('padding'),
      unk_token: special('unknown'),
      sep_token: sep,
      mask_token: special('mask'),
      eot_token: special('eot'),
      eom_token: special('eom'),
      clean_up_tokenization_spaces: false,
      chat_template: chatTemplates(metadata),
    },
  };
}

/** GPT-2's way: words by a pattern, bytes as characters, merges by rank. */
function byteLevelJson(metadata: GgufTokenizerMetadata, vocabulary: Vocabulary): Converted {
  const rule = preTokenizerRule(metadata);
  const merges = metadata.getStringArray(`${prefix}merges`, undefined);
  if (merges === undefined) throw mismatch('ERR_FORMAT', where('merges'), 'no merges', 'the list of merges');
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  const splits = rule.patterns.map((pattern) => ({
    type: 'Split',
    pattern: { Regex: pattern },
    behavior: 'Isolated',
    invert: false,
  }));
  // llama.cpp passes over merges that lead out of the vocabulary; files have them
  const isKnown = ([left, right]: [string, string]): boolean =>
    [left, right, left + right].every((token) => Object.hasOwn(vocabulary.ids, token));
  const json: TokenizerJson = {
    model: {
      type: 'BPE',
      vocab: vocabulary.ids,
      merges: merges.map((merge, i) => splitMerge(merge, i)).filter(isKnown),
      ignore_merges: rule.ignoreMerges ?? false,
    },
    added_tokens: vocabulary.added,
    normalizer: rule.normalizer === undefined ? null : { type: rule.normalizer },
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...splits, byteLevel] },
    post_processor: null,
    decoder: byteLevel,
  };
  return { json, addBos: rule.addBos ?? false, addSep: rule.addSep ?? false };
}

function splitMerge(merge: string, rank: number): [string, string] {
  // A half is never empty, so the first blank that can part the two is at 1.
  const at = merge.indexOf(' ', 1);
  if (at > 0 && at + 1 < merge.length) return [merge.slice(0, at), merge.slice(at + 1)];
  throw mismatch(
    'ERR_FORMAT',
    where(`merges[${rank}]`),
    JSON.stringify(merge),
    'two tokens with a blank between them',
  );
}

function preTokenizerRule(metadata: GgufTokenizerMetadata): PreTokenizerRule {
  const name = metadata.getString(`${prefix}pre`, undefined) ?? 'default';
  const rule = PRE_TOKENIZERS.get(name);
  if (rule !== undefined) return rule;
  const known = [...PRE_TOKENIZERS.keys()].join(', ');
  throw new SwitchyardError('ERR_UNSUPPORTED', `[${where('pre')}] got '${name}', expected one of ${known}`, {
    hint: 'use the Hugging Face folder of the model, whose tokenizer.json holds the pattern',
  });
}

/** SentencePiece's way: blanks as '▁', merges of any two tokens that make a token, best score first, bytes as a last resort. */
function sentencePieceJson(metadata: GgufTokenizerMetadata, vocabulary: Vocabulary): Converted {
  const scores = metadata.getFloatArray(`${prefix}scores`, undefined);
  if (scores === undefined || scores.length !== vocabulary.tokens.length) {
    const got = scores === undefined ? 'no scores' : `${scores.length} scores`;
    throw mismatch('ERR_FORMAT', where('scores'), got, `one for each of ${vocabulary.tokens.length} tokens`);
  }
  const addPrefix = metadata.getBool(`${prefix}add_space_prefix`, undefined) ?? true;
  const blankToMark = { type: 'Replace', pattern: { String: ' ' }, content: '▁' };
  const unknown = vocabulary.tokens[vocabulary.types.indexOf(TokenType.Unknown)];
  const model: TokenizerModel = {
    type: 'BPE',
    vocab: vocabulary.ids,
    merges: mergesOfScores(vocabulary, scores),
    unk_token: unknown ?? null,
    fuse_unk: true,
    byte_fallback: true,
  };
  const strip = addPrefix ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : [];
  const json: TokenizerJson = {
    model,
    added_tokens: vocabulary.added,
    normalizer: addPrefix
      ? { type: 'Sequence', normalizers: [{ type: 'Prepend', prepend: '▁' }, blankToMark] }
      : blankToMark,
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...strip,
      ],
    },
  };
  return { json, addBos: true };
}

/**
 * Every way to put a token together from two others, by falling score; ways to the same token by the ids of the halves.
 * (Conversion of SentencePiece models in the `transformers` library.)
 */
function mergesOfScores(vocabulary: Vocabulary, scores: readonly number[]): [string, string][] {
  const { tokens, types, ids } = vocabulary;
  // Only normal tokens take part: text never merges into a control token or a byte.
  const idOf = (text: string) => {
    const id = ids[text];
    return id !== undefined && types[id] === TokenType.Normal ? id : undefined;
  };
  const merges: { left: number; right: number; score: number }[] = [];
  for (const [id, token] of tokens.entries()) {
    if (ids[token] !== id || types[id] !== TokenType.Normal) continue;
    const first = merges.length;
    let at = 0;
    for (const char of token) {
      at += char.length;
      if (at >= token.length) break;
      const left = idOf(token.slice(0, at));
      const right = left === undefined ? undefined : idOf(token.slice(at));
      if (left !== undefined && right !== undefined) merges.push({ left, right, score: scores[id] });
    }
    if (merges.length > first + 1) {
      const ways = merges.splice(first).sort((a, b) => a.left - b.left || a.right - b.right);
      merges.push(...ways);
    }
  }
  // The sort is stable, so equal scores keep the order of ids.
  merges.sort((a, b) => b.score - a.score);
  return merges.map(({ left, right }) => [tokens[left], tokens[right]]);
}

/** A post-processor that puts a token before or after every text. */
function surround(
  bos: string | undefined,
  eos: string | undefined,
  ids: Readonly<Record<string, number>>,
): unknown {
  if (bos === undefined && eos === undefined) return null;
  const token = (id: string | undefined) => (id === undefined ? [] : [{ SpecialToken: { id, type_id: 0 } }]);
  const text = (id: string) => [{ Sequence: { id, type_id: 0 } }];
  return {
    type: 'TemplateProcessing',
    single: [...token(bos), ...text('A'), ...token(eos)],
    pair: [...token(bos), ...text('A'), ...token(eos), ...token(bos), ...text('B'), ...token(eos)],
    special_tokens: Object.fromEntries(
      [bos, eos].flatMap((id) => (id === undefined ? [] : [[id, { id, ids: [ids[id]], tokens: [id] }]])),
    ),
  };
}

function chatTemplates(metadata: GgufTokenizerMetadata): string | NamedTemplate[] | undefined {
  const main = metadata.getString('tokenizer.chat_template', undefined);
  const names = metadata.getStringArray('tokenizer.chat_templates', undefined) ?? [];
  const others = names.flatMap((name): NamedTemplate[] => {
    const template = metadata.getString(`tokenizer.chat_template.${name}`, undefined);
    return template === undefined ? [] : [{ name, template }];
  });
  if (others.length === 0) return main;
  return main === undefined ? others : [{ name: 'default', template: main }, ...others];
}
