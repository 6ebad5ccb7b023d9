/** How a text's vector comes from its tokens' states, as sentence-transformers folders say it. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Checkpoint } from '../checkpoint/folder.js';
import { readJsonFile, readJsonList } from '../checkpoint/json-file.js';
import { mismatch } from '../core/errors.js';
import type { GgufValues } from './gguf-keys.js';

export const POOLINGS = ['mean', 'cls'] as const;
/** The mean of all tokens' states, or the state of the first token. */
export type Pooling = (typeof POOLINGS)[number];

export interface EmbeddingConfig {
  readonly pooling: Pooling;
  /** Tokens of a text at most; what is longer is cut. Null: as many as the model takes. */
  readonly maxTokens: number | null;
}

const LIMITS = { bytes: 1 << 20, depth: 16, values: 1 << 12 };

/** Modules that only say what is done anyway: vectors have length 1. */
const PLAIN = new Set(['Transformer', 'Normalize']);
const MODES: Readonly<Record<string, Pooling>> = {
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_cls_token: 'cls',
};

/** Numbers of `pooling_type` in GGUF files; others are none, the last token and a classifier of texts. */
const GGUF_POOLINGS: Readonly<Record<Pooling, number>> = { mean: 1, cls: 2 };
const NO_POOLING = 0;
const CLASSIFIER = 4;
/** The format has no key for it. */
const MAX_TOKENS = 'switchyard.embedding.max_tokens';

/** What the files of an encoder say of its vectors. @throws SwitchyardError ERR_FORMAT, ERR_UNSUPPORTED */
export function embeddingConfigOf(checkpoint: Checkpoint): EmbeddingConfig {
  if (checkpoint.kind === 'huggingface') return readEmbeddingConfig(checkpoint.folder);
  if (checkpoint.kind !== 'gguf') return { pooling: 'mean', maxTokens: null };
  const { metadata, path } = checkpoint;
  const key = `${metadata.getString('general.architecture')}.pooling_type`;
  const type = metadata.getInt(key, NO_POOLING);
  const said = POOLINGS.find((pooling) => GGUF_POOLINGS[pooling] === type);
  if (said === undefined && type !== NO_POOLING && type !== CLASSIFIER)
    throw mismatch('ERR_UNSUPPORTED', path, `${key} ${type}`, '1 (mean), 2 (first token) or 4 (classifier)');
  return { pooling: said ?? 'mean', maxTokens: metadata.getInt(MAX_TOKENS, null) };
}

/** The same as metadata of a GGUF file. */
export function poolingValues(
  arch: string,
  { pooling, maxTokens }: EmbeddingConfig,
  { classifies }: { readonly classifies: boolean },
): GgufValues {
  const values: GgufValues = new Map();
  values.set(`${arch}.pooling_type`, classifies ? CLASSIFIER : GGUF_POOLINGS[pooling]);
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
  const mode = Object.keys(MODES).find((key) => MODES[key] === pooling) as string;
  put('1_Pooling/config.json', { [mode]: true });
  if (maxTokens !== null) put('sentence_bert_config.json', { max_seq_length: maxTokens });
  return files;
}

/** What modules.json and the files beside it say; without them the mean. @throws SwitchyardError ERR_FORMAT, ERR_UNSUPPORTED */
export function readEmbeddingConfig(folder: string): EmbeddingConfig {
  const modules = join(folder, 'modules.json');
  if (!existsSync(modules)) return { pooling: 'mean', maxTokens: null };
  let pooling: Pooling = 'mean';
  for (const module of readJsonList(modules, LIMITS) as readonly (Record<string, unknown> | null)[]) {
    const type = String(module?.type).split('.').at(-1) as string;
    if (PLAIN.has(type)) continue;
    if (type !== 'Pooling')
      throw mismatch('ERR_UNSUPPORTED', modules, `a module ${type}`, 'Transformer, Pooling and Normalize');
    const path = String(module?.path);
    if (!/^[\w-]+$/.test(path)) throw mismatch('ERR_FORMAT', modules, `path '${path}'`, 'a folder beside it');
    pooling = readPooling(join(folder, path, 'config.json'));
  }
  return { pooling, maxTokens: readLength(join(folder, 'sentence_bert_config.json')) };
}

function readPooling(path: string): Pooling {
  const config = readJsonFile(path, LIMITS) as Record<string, unknown>;
  const named = config.pooling_mode;
  if (named !== undefined) {
    if ((POOLINGS as readonly unknown[]).includes(named)) return named as Pooling;
    throw mismatch('ERR_UNSUPPORTED', path, `pooling_mode ${JSON.stringify(named)}`, POOLINGS.join(' or '));
  }
  const on = Object.keys(config).filter((key) => key.startsWith('pooling_mode_') && config[key] === true);
  const [mode = ''] = on;
  if (on.length === 1 && Object.hasOwn(MODES, mode)) return MODES[mode] as Pooling;
  throw mismatch('ERR_UNSUPPORTED', path, on.join(' and ') || 'no pooling', Object.keys(MODES).join(' or '));
}

function readLength(path: string): number | null {
  if (!existsSync(path)) return null;
  const length = (readJsonFile(path, LIMITS) as Record<string, unknown>).max_seq_length ?? null;
  if (length === null || (Number.isInteger(length) && (length as number) > 0)) return length as number | null;
  throw mismatch('ERR_FORMAT', path, `max_seq_length ${JSON.stringify(length)}`, 'a whole number above 0');
}
