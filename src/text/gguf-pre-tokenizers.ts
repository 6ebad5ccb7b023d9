/**
 * How byte-level vocabularies split text before merging, by the name under `tokenizer.ggml.pre`.
 * A text is cut by each pattern in turn: matches stand alone, and so does what lies between two matches.
 */
export interface PreTokenizerRule {
  readonly patterns: readonly string[];
  /** Take a piece that is a whole token as it is, without merging. */
  readonly ignoreMerges?: boolean;
  /** Whether a beginning-of-text token is added when the file does not say. */
  readonly addBos?: boolean;
  /** Whether a separator ends a text when the file does not say. */
  readonly addSep?: boolean;
  /** Unicode normalisation of the published tokenizer. */
  readonly normalizer?: 'NFC';
}

const ENGLISH_ENDINGS = "'s|'t|'re|'ve|'m|'ll|'d";
const ANY_CASE_ENDINGS = `(?i:${ENGLISH_ENDINGS})`;
const SPACES = String.raw`\s+(?!\S)|\s+`;
const LINES_AND_SPACES = String.raw`\s*[\r\n]+|${SPACES}`;
const LETTERS = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const SIGNS = String.raw` ?[^\s\p{L}\p{N}]+`;

const GPT2 = String.raw`${ENGLISH_ENDINGS}| ?\p{L}+| ?\p{N}+|${SIGNS}|${SPACES}`;
const LLAMA3 = String.raw`${ANY_CASE_ENDINGS}|${LETTERS}|\p{N}{1,3}|${SIGNS}[\r\n]*|${LINES_AND_SPACES}`;
const QWEN2 = String.raw`${ANY_CASE_ENDINGS}|${LETTERS}|\p{N}|${SIGNS}[\r\n]*|${LINES_AND_SPACES}`;
const QWEN35 = String.raw`${ANY_CASE_ENDINGS}|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|${LINES_AND_SPACES}`;
const SEED_CODER = String.raw`${ANY_CASE_ENDINGS}|${LETTERS}|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|${LINES_AND_SPACES}`;
const EXAONE_MOE = String.raw`${ANY_CASE_ENDINGS}|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|${SIGNS}[\r\n/]?|\s*[\r\n]|${SPACES}`;
const BLOOM = ' ?[^(\\s|.,!?…。，、।۔،)]+';

// A word is capitals then small letters; letters without case and marks count as both.
const CAPITALS = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const SMALL = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const casedWords = (ending: string): string =>
  String.raw`[^\r\n\p{L}\p{N}]?${CAPITALS}*${SMALL}+${ending}|[^\r\n\p{L}\p{N}]?${CAPITALS}+${SMALL}*${ending}`;
const GPT4O = String.raw`${casedWords(`${ANY_CASE_ENDINGS}?`)}|\p{N}{1,3}|${SIGNS}[\r\n/]*|${LINES_AND_SPACES}`;
const TEKKEN = String.raw`${casedWords('')}|\p{N}|${SIGNS}[\r\n/]*|${LINES_AND_SPACES}`;

/** The letters with case that DeepSeek's first tokenizers know; later additions to Unicode are left out there. */
const DEEPSEEK_LETTERS = `
  41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376-377 37b-37d 37f 386 388-38a 38c
  38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b
  1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4
  1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113
  2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183-2184 2c00-2c7b
  2c7e-2ce4 2ceb-2cee 2cf2-2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06
  fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df
  1e900-1e943`
  .trim()
  .split(/\s+/)
  .map((range) => range.replace(/[0-9a-f]+/g, (code) => `\\x{${code}}`))
  .join('');
const DEEPSEEK_SIGNS = String.raw`!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}`;
const DEEPSEEK_HAN_AND_HANGUL = String.raw`[\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+`;
const DEEPSEEK_LLM = [
  String.raw`[\r\n]`,
  String.raw`\s?[${DEEPSEEK_LETTERS}]+`,
  String.raw`\s?[${DEEPSEEK_SIGNS}]+`,
  String.raw`\s+$`,
  DEEPSEEK_HAN_AND_HANGUL,
  String.raw`\p{N}`,
];
const DEEPSEEK_CODER = [
  String.raw`[\r\n]`,
  String.raw`\s?\p{L}+`,
  String.raw`\s?\p{P}+`,
  DEEPSEEK_HAN_AND_HANGUL,
  String.raw`\p{N}`,
];
const DEEPSEEK_V3 = [
  String.raw`\p{N}{1,3}`,
  String.raw`[\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+`,
  `[!"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_\`{|}~][A-Za-z]+|${String.raw`[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|${LINES_AND_SPACES}`}`,
];
const BAILING = String.raw`'(?i:[sdmt]|ll|ve|re)|${LETTERS}|\p{N}|${SIGNS}[\r\n]*|\s*[\r\n]|${SPACES}`;

const gpt2: PreTokenizerRule = { patterns: [GPT2] };
const gpt2Separated: PreTokenizerRule = { patterns: [GPT2], addBos: true, addSep: true };
const llama3: PreTokenizerRule = { patterns: [LLAMA3] };
const llama3Whole: PreTokenizerRule = { patterns: [LLAMA3], ignoreMerges: true, addBos: true };
const digitsThenGpt2: PreTokenizerRule = { patterns: [String.raw`\p{N}`, GPT2] };
const qwen2: PreTokenizerRule = { patterns: [QWEN2], normalizer: 'NFC' };
const bloom: PreTokenizerRule = { patterns: [BLOOM] };
const gpt4o: PreTokenizerRule = { patterns: [GPT4O] };
const bailing: PreTokenizerRule = { patterns: [BAILING] };

/** Every known name. The families that use it stand beside it where the name does not say so. */
export const PRE_TOKENIZERS: ReadonlyMap<string, PreTokenizerRule> = new Map<string, PreTokenizerRule>([
  [
    'default',
    {
      patterns: [String.raw`[\p{P}\$\+<=>\^~\|]+`, GPT2, String.raw`\p{N}+`, '[0-9][0-9][0-9]'],
    },
  ],
  ['gpt-2', gpt2],
  ['phi-2', gpt2],
  ['mpt', gpt2],
  ['jais', gpt2],
  ['trillion', gpt2],
  ['exaone4', gpt2],
  ['gigachat', gpt2],
  ['granite-docling', gpt2],
  ['a.x-4.0', gpt2],
  ['mellum', gpt2],
  ['modern-bert', gpt2],
  ['roberta-bpe', gpt2Separated],
  ['jina-v1-en', gpt2Separated],
  ['jina-v2-code', gpt2Separated],
  ['jina-es', gpt2],
  ['jina-de', gpt2],
  ['jina-v2-es', gpt2],
  ['jina-v2-de', gpt2],
  // OLMo and OLMoE.
  ['olmo', { patterns: [GPT2], normalizer: 'NFC' }],
  // SmolLM, SmolLM2, SmolLM3.
  ['smollm', digitsThenGpt2],
  ['starcoder', digitsThenGpt2],
  // Granite and Granite MoE.
  ['refact', digitsThenGpt2],
  ['command-r', digitsThenGpt2],
  ['codeshell', digitsThenGpt2],
  ['exaone', digitsThenGpt2],
  ['minerva-7b', digitsThenGpt2],
  ['mellum2', digitsThenGpt2],
  ['falcon', { patterns: [`[\\p{P}\\$\\+<=>\\^~\\|\`]+`, GPT2, '[0-9][0-9][0-9]'] }],
  ['llama-bpe', llama3Whole],
  ['llama3', llama3Whole],
  ['llama-v3', llama3Whole],
  ['falcon3', llama3Whole],
  ['falcon-h1', llama3Whole],
  ['pixtral', llama3Whole],
  ['lfm2', llama3Whole],
  ['midm-2.0', llama3Whole],
  // Phi-4 and DBRX.
  ['dbrx', llama3],
  ['smaug-bpe', llama3],
  // GLM-4 and its mixtures.
  ['glm4', llama3],
  ['chatglm-bpe', llama3],
  // Qwen2, Qwen3 and their mixtures.
  ['qwen2', qwen2],
  ['deepseek-r1-qwen', qwen2],
  ['megrez', qwen2],
  ['kormo', qwen2],
  ['qwen35', { patterns: [QWEN35], normalizer: 'NFC' }],
  ['grok-2', { patterns: [QWEN2] }],
  ['solar-open', { patterns: [QWEN2] }],
  ['seed-coder', { patterns: [SEED_CODER] }],
  ['exaone-moe', { patterns: [EXAONE_MOE] }],
  ['stablelm2', { patterns: [QWEN2] }],
  ['hunyuan', { patterns: [QWEN2] }],
  // DeepSeek LLM, MoE and V2.
  ['deepseek-llm', { patterns: DEEPSEEK_LLM }],
  ['deepseek-coder', { patterns: DEEPSEEK_CODER }],
  ['deepseek-v3', { patterns: DEEPSEEK_V3 }],
  ['hunyuan-dense', { patterns: DEEPSEEK_V3 }],
  // gpt-oss.
  ['gpt-4o', gpt4o],
  ['llama4', gpt4o],
  ['kanana2', gpt4o],
  ['talkie', gpt4o],
  ['minimax-m2', gpt4o],
  ['tekken', { patterns: [TEKKEN], ignoreMerges: true, addBos: true }],
  ['bailingmoe', bailing],
  ['bailingmoe2', bailing],
  ['llada-moe', bailing],
  ['bloom', bloom],
  ['poro-chat', bloom],
  ['gpt3-finnish', bloom],
  ['viking', { patterns: [BLOOM, String.raw`\p{N}`] }],
]);
