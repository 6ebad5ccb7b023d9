/** How a text's vector comes from its tokens' states, as sentence-transformers folders and GGUF files say it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Checkpoint } from '../../checkpoint/folder.js';
import { readJsonFile, readJsonList } from '../../checkpoint/json-file.js';
import { mismatch } from '../../core/errors.js';
import type { GgufValues } from '../gguf/keys.js';
import { type EmbeddingStep, readDense } from './embedding-steps.js';

/** In the order in which several are put together. */
export const POOLINGS = ['cls', 'max', 'mean', 'mean_sqrt_len_tokens', 'weightedmean', 'lasttoken'] as const;
/**
 * cls, lasttoken: the state of the first or last token. max: the largest of each channel. mean; mean_sqrt_len_tokens: the sum
 * divided by the root of the number of tokens; weightedmean: the n-th token counts n times (Muennighoff 2022).
 */
export type Pooling = (typeof POOLINGS)[number];

export interface EmbeddingConfig {
  /** Of several the vectors are put one after another. */
  readonly pooling: Pooling | readonly Pooling[];
  /** What is done with the pooled vector; at the end it gets length 1 in any case. */
  readonly steps: readonly EmbeddingStep[];
  /** Tokens of a text at most; what is longer is cut. Null: as many as the model takes. */
  readonly maxTokens: number | null;
  /** Put before every text. */
  readonly prompt: string;
  /** Texts are written small first. */
  readonly lowerCase: boolean;
}

const USUAL: EmbeddingConfig = { pooling: 'mean', steps: [], maxTokens: null, prompt: '', lowerCase: false };
const LIMITS = { bytes: 1 << 20, depth: 16, values: 1 << 12 };

/** Modules without a part in a vector. */
const IDLE = new Set(['Transformer', 'Dropout']);
const MODES: Readonly<Record<string, Pooling>> = {
  pooling_mode_cls_token: 'cls',
  pooling_mode_max_tokens: 'max',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_mean_sqrt_len_tokens: 'mean_sqrt_len_tokens',
  pooling_mode_weightedmean_tokens: 'weightedmean',
  pooling_mode_lasttoken: 'lasttoken',
};

/** Numbers of `pooling_type` in GGUF files; others are none and a classifier of texts. */
const GGUF_POOLINGS: ReadonlyMap<Pooling, number> = new Map([
  ['mean', 1],
  ['cls', 2],
  ['lasttoken', 3],
]);
const NO_POOLING = 0;
const CLASSIFIER = 4;
/** The format has no key for it. */
const MAX_TOKENS = 'switchyard.embedding.max_tokens';

/** One or several poolings, in their order. */
export function poolingsOf(pooling: Pooling | readonly Pooling[]): readonly Pooling[] {
  const named = [pooling].flat() as Pooling[];
  return POOLINGS.filter((each) => named.includes(each));
}

/** What the files of an encoder say of its vectors. @throws SwitchyardError ERR_FORMAT, ERR_UNSUPPORTED */
export function embeddingConfigOf(checkpoint: Checkpoint): EmbeddingConfig {
  if (checkpoint.kind === 'huggingface') return readEmbeddingConfig(checkpoint.folder);
  if (checkpoint.kind !== 'gguf') return USUAL;
  const { metadata, path } = checkpoint;
  const key = `${metadata.getString('general.architecture')}.pooling_type`;
  const type = metadata.getInt(key, NO_POOLING);
  const said = [...GGUF_POOLINGS].find(([, number]) => number === type)?.[0];
  if (said === undefined && type !== NO_POOLING && type !== CLASSIFIER)
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      `${key} ${type}`,
      '1 (mean), 2 (first token), 3 (last token) or 4 (classifier)',
    );
  return { ...USUAL, pooling: said ?? 'mean', maxTokens: metadata.getInt(MAX_TOKENS, null) };
}

/** The same as metadata of a GGUF file. @throws SwitchyardError ERR_UNSUPPORTED for what the format has no words for */
export function poolingValues(
  arch: string,
  { pooling, steps, maxTokens, prompt, lowerCase }: EmbeddingConfig,
  { classifies }: { readonly classifies: boolean },
): GgufValues {
  const refuse = (got: string, expected: string) => mismatch('ERR_UNSUPPORTED', 'save', got, expected);
  const [first, ...others] = poolingsOf(pooling);
  const number = GGUF_POOLINGS.get(first as Pooling);
  if (number === undefined || others.length > 0)
    throw refuse(`pooling ${[pooling].flat().join(' and ')}`, [...GGUF_POOLINGS.keys()].join(', '));
  if (steps.some(({ kind }) => kind === 'dense')) throw refuse('a dense module', 'none: GGUF has none');
  if (prompt !== '' || lowerCase)
    throw refuse('texts that are changed first', 'none: GGUF has no key for it');
  const values: GgufValues = new Map();
  values.set(`${arch}.pooling_type`, classifies ? CLASSIFIER : number);
  return maxTokens === null ? values : values.set(MAX_TOKENS, maxTokens);
}

/** The same as files of a sentence-transformers folder, by path; none for what holds without them. */
export function embeddingFiles({ pooling, maxTokens }: EmbeddingConfig): Map<string, string> {
  const files = new Map<string, string>();
  if (pooling === 'mean' && maxTokens === null) return files;
  const put = (path: string, value: unknown) => files.set(path, `${JSON.stringify(value, null, 2)}\n`);
  const module = (idx: number, type: string, path: string) => ({
    idx,
    name: String(idx),
    path,
    type: `sentence_transformers.models.${type}`,
  });
  put('modules.json', [
    module(0, 'Transformer', ''),
    module(1, 'Pooling', '1_Pooling'),
    module(2, 'Normalize', '2_Normalize'),
  ]);
  const on = poolingsOf(pooling);
  const modes = Object.entries(MODES).map(([mode, of]) => [mode, on.includes(of)]);
  put('1_Pooling/config.json', Object.fromEntries(modes));
  if (maxTokens !== null) put('sentence_bert_config.json', { max_seq_length: maxTokens });
  return files;
}

/** What modules.json and the files beside it say; without them the mean. @throws SwitchyardError ERR_FORMAT, ERR_UNSUPPORTED */
export function readEmbeddingConfig(folder: string): EmbeddingConfig {
  const modules = join(folder, 'modules.json');
  if (!existsSync(modules)) return USUAL;
  let pooled: Pooled | null = null;
  const steps: EmbeddingStep[] = [];
  for (const module of readJsonList(modules, LIMITS) as readonly (Record<string, unknown> | null)[]) {
    const type = String(module?.type).split('.').at(-1) as string;
    if (IDLE.has(type)) continue;
    if (type === 'Normalize') {
      steps.push({ kind: 'normalize' });
      continue;
    }
    if (type !== 'Pooling' && type !== 'Dense')
      throw mismatch(
        'ERR_UNSUPPORTED',
        modules,
        `a module ${type}`,
        'Transformer, Pooling, Dense, Normalize and Dropout',
      );
    const path = String(module?.path);
    if (!/^[\w-]+$/.test(path)) throw mismatch('ERR_FORMAT', modules, `path '${path}'`, 'a folder beside it');
    if (type === 'Pooling' && (pooled !== null || steps.length > 0))
      throw mismatch('ERR_UNSUPPORTED', modules, 'Pooling behind other modules', 'it behind the Transformer');
    if (type === 'Pooling') pooled = readPooling(join(folder, path, 'config.json'));
    else steps.push(readDense(join(folder, path)));
  }
  const prompt = promptOf(join(folder, 'config_sentence_transformers.json'));
  if (prompt !== '' && pooled?.prompt === false)
    throw mismatch('ERR_UNSUPPORTED', modules, 'a prompt that is not pooled', 'none, or one that is');
  return { ...USUAL, pooling: pooled?.pooling ?? 'mean', steps, prompt, ...textRules(folder) };
}

interface Pooled {
  readonly pooling: Pooling | readonly Pooling[];
  /** Whether the tokens of a prompt count. */
  readonly prompt: boolean;
}

function readPooling(path: string): Pooled {
  const config = readJsonFile(path, LIMITS) as Record<string, unknown>;
  const prompt = config.include_prompt !== false;
  const named = config.pooling_mode;
  if (named !== undefined) {
    const list = typeof named === 'string' ? named.split('+') : named;
    const known = (each: unknown): each is Pooling => (POOLINGS as readonly unknown[]).includes(each);
    if (Array.isArray(list) && list.length > 0 && list.every(known)) return { pooling: oneOf(list), prompt };
    throw mismatch('ERR_UNSUPPORTED', path, `pooling_mode ${JSON.stringify(named)}`, POOLINGS.join(' or '));
  }
  const on = Object.keys(config).filter((key) => key.startsWith('pooling_mode_') && config[key] === true);
  if (on.length === 0 || !on.every((mode) => Object.hasOwn(MODES, mode)))
    throw mismatch(
      'ERR_UNSUPPORTED',
      path,
      on.join(' and ') || 'no pooling',
      Object.keys(MODES).join(' or '),
    );
  return { pooling: oneOf(on.map((mode) => MODES[mode] as Pooling)), prompt };
}

const oneOf = (list: readonly Pooling[]): EmbeddingConfig['pooling'] => {
  const [first, ...others] = poolingsOf(list) as [Pooling, ...Pooling[]];
  return others.length === 0 ? first : [first, ...others];
};

/** The prompt that every text gets where nobody names another. */
function promptOf(path: string): string {
  if (!existsSync(path)) return '';
  const { default_prompt_name: name, prompts } = readJsonFile(path, LIMITS) as Record<string, unknown>;
  if (name === undefined || name === null) return '';
  const prompt = (prompts as Record<string, unknown> | null | undefined)?.[name as string];
  if (typeof prompt === 'string') return prompt;
  throw mismatch('ERR_FORMAT', path, `no prompt ${JSON.stringify(name)}`, 'the default among its prompts');
}

/** Files of the Transformer module: the first is there; older names tell its architecture. */
const RULES = ['bert', 'roberta', 'distilbert', 'camembert', 'albert', 'xlm-roberta', 'xlnet'];

function textRules(folder: string): Pick<EmbeddingConfig, 'maxTokens' | 'lowerCase'> {
  const path = RULES.map((name) => join(folder, `sentence_${name}_config.json`)).find((file) =>
    existsSync(file),
  );
  if (path === undefined) return { maxTokens: null, lowerCase: false };
  const config = readJsonFile(path, LIMITS) as Record<string, unknown>;
  const length = config.max_seq_length ?? null;
  if (length !== null && !(Number.isInteger(length) && (length as number) > 0))
    throw mismatch('ERR_FORMAT', path, `max_seq_length ${JSON.stringify(length)}`, 'a whole number above 0');
  return { maxTokens: length as number | null, lowerCase: config.do_lower_case === true };
}
