/** Which files of a repository are downloaded. */
import { mismatch } from '../core/errors.js';
import type { RemoteFile } from './client.js';

/** Small files that loading may read, also those of sentence-transformers' subfolders. */
const TEXT_FILES =
  /^(?:[^/]*\.json|[^/]*\.jinja|(?:vocab|merges)\.txt|tokenizer\.model|(?:additional_)?chat_templates?\/[^/]*|\d+_[^/]*\/config\.json|LICENSE[^/]*|README\.md)$/;
/** Weights under the names that loading looks for. */
const MODEL_WEIGHTS = /^(?:model(?:-\d+-of-\d+)?\.safetensors|\d+_[^/]*\/model\.safetensors)$/;

/** @throws SwitchyardError ERR_OPTION where nothing fits, or where a choice is needed */
export function selectFiles(
  id: string,
  files: readonly RemoteFile[],
  include: readonly string[] | undefined,
): RemoteFile[] {
  const chosen = include === undefined ? usual(id, files) : matching(files, include);
  if (chosen.length > 0) return chosen;
  const names = files.map(({ name }) => name).slice(0, 10);
  throw mismatch(
    'ERR_OPTION',
    `pull ${id}`,
    include === undefined ? 'no safetensors or GGUF file' : `--include ${include.join(' ')}`,
    'patterns that some file fits',
    {
      hint: `it holds ${names.join(', ')}${files.length > names.length ? ', …' : ''}`,
    },
  );
}

function usual(id: string, files: readonly RemoteFile[]): RemoteFile[] {
  const texts = files.filter(({ name }) => TEXT_FILES.test(name));
  const named = files.filter(({ name }) => MODEL_WEIGHTS.test(name));
  const weights = named.length > 0 ? named : files.filter(({ name }) => /^[^/]*\.safetensors$/.test(name));
  if (weights.length > 0) return [...texts, ...weights];
  const gguf = files.filter(({ name }) => name.endsWith('.gguf'));
  if (gguf.length <= 1) return gguf;
  throw mismatch('ERR_OPTION', `pull ${id}`, `${gguf.length} GGUF files`, 'a choice by --include', {
    hint: `they are ${gguf
      .map(({ name }) => name)
      .slice(0, 10)
      .join(', ')}${gguf.length > 10 ? ', …' : ''}`,
  });
}

function matching(files: readonly RemoteFile[], include: readonly string[]): RemoteFile[] {
  const patterns = include.map((pattern) => {
    const source = pattern
      .replace(/[.+^${}()|[\]\\]/g, '\\$&')
      .replaceAll('*', '.*')
      .replaceAll('?', '.');
    return new RegExp(`^${source}$`, 's');
  });
  return files.filter(({ name }) => patterns.some((pattern) => pattern.test(name)));
}
