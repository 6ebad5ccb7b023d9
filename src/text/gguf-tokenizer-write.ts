import { PRE_TOKENIZERS } from './gguf-pre-tokenizers.js';
import { TokenType } from './gguf-vocabulary.js';
import type { Tokenizer } from './tokenizer.js';
import { checkTokenizerJson, type NamedTemplate, type TokenizerJson } from './tokenizer-json.js';

/** A value of GGUF metadata: numbers are u32, typed arrays keep their type. */
export type MetadataValue =
  | string
  | number
  | boolean
  | readonly string[]
  | Int32Array
  | Float32Array
  | Uint8Array;

/**
 * A tokenizer as GGUF metadata. What the format cannot say (patterns without a name, normalisers, merges that no scores
 * give) is in `tokenizer.huggingface.json` all the same, which this project reads first; llama.cpp then warns that the
 * pre-tokenizer has no name.
 * @param size rows of the embedding: ids without a token get a placeholder, as llama.cpp wants one for each row
 */
export function ggufTokenizerMetadata(tokenizer: Tokenizer, size: number): Map<string, MetadataValue> {
  const json = checkTokenizerJson(tokenizer.files.tokenizerJson);
  const kind = kindOf(json);
  const values = new Map<string, MetadataValue>();
  const put = (key: string, value: MetadataValue | undefined) => {
    if (value !== undefined) values.set(`tokenizer.${key}`, value);
  };
  const count = Math.max(size, tokenizer.vocabSize);
  put('ggml.model', kind);
  if (kind === 'gpt2') put('ggml.pre', preTokenizerName(json));
  put('ggml.tokens', tokenTexts(tokenizer, json, kind, count));
  put('ggml.token_type', tokenTypes(tokenizer, json, count));
  put('ggml.scores', scoresOf(tokenizer, json, kind, count));
  if (kind === 'gpt2')
    put(
      'ggml.merges',
      mergesOf(json).map((pair) => pair.join(' ')),
    );
  put('ggml.precompiled_charsmap', characterMap(json.normalizer));
  if (kind === 't5') put('ggml.remove_extra_whitespaces', joinsBlanks(json));
  if (kind === 'llama' || kind === 't5') put('ggml.add_space_prefix', addsSpace(json));

  const special = tokenizer.specialTokens;
  const idOf = (name: string) => {
    const text = special[`${name}_token`];
    return text === undefined ? undefined : tokenizer.tokenToId(text);
  };
  const bos = idOf('bos') ?? (kind === 'bert' ? idOf('cls') : undefined);
  put('ggml.bos_token_id', bos);
  for (const [ours, theirs] of SPECIAL) put(`ggml.${theirs}_token_id`, idOf(ours));
  // What is put around a text shows in the ids of an empty one.
  const around = tokenizer.encode('');
  const last = around.at(-1);
  put('ggml.add_bos_token', bos !== undefined && around[0] === bos);
  put(
    'ggml.add_eos_token',
    around.length > 0 && last === idOf('eos') && !(around.length === 1 && last === bos),
  );
  put('ggml.add_sep_token', around.length > 0 && last === idOf('sep'));
  putTemplates(tokenizer.chatTemplate, put);
  put('huggingface.json', JSON.stringify({ version: '1.0', truncation: null, padding: null, ...json }));
  return values;
}

const SPECIAL: readonly (readonly [string, string])[] = [
  ['eos', 'eos'],
  ['eot', 'eot'],
  ['eom', 'eom'],
  ['unk', 'unknown'],
  // The key is spelt so.
  ['sep', 'seperator'],
  ['pad', 'padding'],
  ['mask', 'mask'],
];

type Kind = 'gpt2' | 'llama' | 'bert' | 't5';

function kindOf({ model, pre_tokenizer, normalizer }: TokenizerJson): Kind {
  if (model.type === 'Unigram') return 't5';
  if (model.type !== 'BPE') return 'bert';
  return JSON.stringify([pre_tokenizer, normalizer]).includes('"ByteLevel"') ? 'gpt2' : 'llama';
}

interface Part {
  type?: string;
  pattern?: { Regex?: string; String?: string };
  individual_digits?: boolean;
  use_regex?: boolean;
  pretokenizers?: Part[];
  normalizers?: Part[];
  prepend?: string;
  prepend_scheme?: string;
  precompiled_charsmap?: string;
}

const flat = (part: Part | null, key: 'pretokenizers' | 'normalizers'): Part[] =>
  part === null ? [] : (part[key]?.flatMap((each) => flat(each, key)) ?? [part]);

/** The name of the rule with the same patterns, or undefined. */
function preTokenizerName({ pre_tokenizer, normalizer, model }: TokenizerJson): string | undefined {
  const parts = flat(pre_tokenizer as Part | null, 'pretokenizers');
  const gpt2 = PRE_TOKENIZERS.get('gpt-2')!.patterns[0];
  const patterns = parts.flatMap((part) => {
    if (part.type === 'Split') return [part.pattern?.Regex ?? ''];
    if (part.type === 'Digits' && part.individual_digits === true) return ['\\p{N}'];
    if (part.type === 'ByteLevel') return part.use_regex === false ? [] : [gpt2];
    return [''];
  });
  const form = (normalizer as Part | null)?.type;
  const plain = (pattern: string) =>
    pattern.replaceAll("(?:'s|'t|'re|'ve|'m|'ll|'d)", "'s|'t|'re|'ve|'m|'ll|'d");
  const wanted = patterns.map(plain).join('\n');
  const ignoreMerges = model.ignore_merges === true;
  for (const [name, rule] of PRE_TOKENIZERS) {
    const same = rule.patterns.map(plain).join('\n') === wanted && rule.normalizer === form;
    if (same && (rule.ignoreMerges ?? false) === ignoreMerges) return name;
  }
  return undefined;
}

function tokenTexts(
  tokenizer: Tokenizer,
  { added_tokens }: TokenizerJson,
  kind: Kind,
  count: number,
): string[] {
  const added = new Set(added_tokens.map(({ id }) => id));
  return Array.from({ length: count }, (_, id) => {
    const text = id < tokenizer.vocabSize ? tokenizer.idToToken(id) : undefined;
    if (text === undefined) return `[PAD${id}]`;
    if (kind !== 'bert' || added.has(id)) return text;
    return text.startsWith('##') ? text.slice(2) : `▁${text}`;
  });
}

function tokenTypes(tokenizer: Tokenizer, { model, added_tokens }: TokenizerJson, count: number): Int32Array {
  const types = new Int32Array(count).fill(TokenType.Unused);
  for (let id = 0; id < tokenizer.vocabSize; id++) {
    const text = tokenizer.idToToken(id);
    if (text === undefined) continue;
    const isByte = model.byte_fallback === true && /^<0x[0-9A-F]{2}>$/.test(text);
    types[id] = isByte ? TokenType.Byte : TokenType.Normal;
  }
  for (const { id, special } of added_tokens) types[id] = special ? TokenType.Control : TokenType.UserDefined;
  const { unkId } = tokenizer;
  if (
    unkId !== undefined &&
    model.type !== 'WordPiece' &&
    tokenizer.specialTokens.unk_token !== tokenizer.specialTokens.eos_token
  ) {
    types[unkId] = TokenType.Unknown;
  }
  return types;
}

const mergesOf = ({ model }: TokenizerJson): [string, string][] =>
  (model.merges ?? []).map((merge) =>
    typeof merge === 'string' ? (merge.split(' ') as [string, string]) : merge,
  );

/** Scores of Unigram; for SentencePiece BPE minus the rank of the first merge that makes a token, which gives its order. */
function scoresOf(
  tokenizer: Tokenizer,
  json: TokenizerJson,
  kind: Kind,
  count: number,
): Float32Array | undefined {
  const scores = new Float32Array(count);
  if (kind === 't5') {
    for (const [id, [, score]] of (json.model.vocab as [string, number][]).entries()) scores[id] = score;
    return scores;
  }
  if (kind !== 'llama') return undefined;
  const merges = mergesOf(json);
  // Single characters are never merged into: they come last.
  scores.fill(-merges.length - 1);
  for (const [rank, pair] of [...merges.entries()].reverse()) {
    const id = tokenizer.tokenToId(pair.join(''));
    if (id !== undefined) scores[id] = -rank;
  }
  return scores;
}

function characterMap(normalizer: unknown): Uint8Array | undefined {
  const map = flat(normalizer as Part | null, 'normalizers').find(({ type }) => type === 'Precompiled');
  return map?.precompiled_charsmap === undefined
    ? undefined
    : Buffer.from(map.precompiled_charsmap, 'base64');
}

/** Whether runs of blanks count as one, and blanks at the ends as none. */
function joinsBlanks({ normalizer, pre_tokenizer }: TokenizerJson): boolean {
  const splits = flat(pre_tokenizer as Part | null, 'pretokenizers').some(
    ({ type }) => type === 'WhitespaceSplit',
  );
  return (
    splits ||
    flat(normalizer as Part | null, 'normalizers').some(
      ({ type, pattern }) => type === 'Replace' && pattern?.Regex === ' {2,}',
    )
  );
}

/** Whether a text begins with '▁'. */
function addsSpace({ normalizer, pre_tokenizer }: TokenizerJson): boolean {
  const prepends = flat(normalizer as Part | null, 'normalizers').some(
    ({ type, prepend }) => type === 'Prepend' && prepend === '▁',
  );
  return (
    prepends ||
    flat(pre_tokenizer as Part | null, 'pretokenizers').some(
      ({ type, prepend_scheme }) => type === 'Metaspace' && prepend_scheme !== 'never',
    )
  );
}

function putTemplates(
  template: string | readonly NamedTemplate[] | undefined,
  put: (key: string, value: MetadataValue | undefined) => void,
): void {
  if (template === undefined || typeof template === 'string') {
    put('chat_template', template);
    return;
  }
  put('chat_template', template.find(({ name }) => name === 'default')?.template);
  const others = template.filter(({ name }) => name !== 'default');
  if (others.length > 0)
    put(
      'chat_templates',
      others.map(({ name }) => name),
    );
  for (const { name, template: text } of others) put(`chat_template.${name}`, text);
}
