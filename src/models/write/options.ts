import { checkOptions, mismatch } from '../../core/errors.js';
import { FLOAT_FORMATS, type FloatFormat } from './floats.js';

export interface WriteProgress {
  /** Bytes written so far, and in all. */
  readonly written: number;
  readonly total: number;
  readonly tensor: string;
}

export interface WriteOptions {
  /** What `path` becomes. Default: by its ending, '.gguf', '.switchyard' or anything else for a folder. */
  format?: 'folder' | 'gguf' | 'packed';
  /** Format of all floats and of weights that the target has no format for. Default: as they are. */
  dtype?: FloatFormat;
  /** Most bytes of one safetensors file; a tensor that is larger has a file of its own. Default 5·10⁹. */
  maxShardBytes?: number;
  /** Leaves out a head that GGUF has no names for (BERT's of masked words and of tokens), for embeddings. Default false. */
  dropHead?: boolean;
  onProgress?: (progress: WriteProgress) => void;
  signal?: AbortSignal;
}

export const MAX_SHARD_BYTES = 5e9;

export function checkWriteOptions(options: WriteOptions): void {
  checkOptions('save', options, ['format', 'dtype', 'maxShardBytes', 'dropHead', 'onProgress', 'signal']);
  const { format, dtype, maxShardBytes, dropHead } = options;
  if (format !== undefined && !['folder', 'gguf', 'packed'].includes(format))
    throw mismatch('ERR_OPTION', 'save', `format '${format}'`, 'folder, gguf or packed');
  if (dtype !== undefined && !FLOAT_FORMATS.includes(dtype))
    throw mismatch('ERR_OPTION', 'save', `dtype '${dtype}'`, FLOAT_FORMATS.join(', '));
  if (dropHead !== undefined && typeof dropHead !== 'boolean')
    throw mismatch('ERR_OPTION', 'save', `dropHead ${JSON.stringify(dropHead)}`, 'true or false');
  if (maxShardBytes !== undefined && !(Number.isFinite(maxShardBytes) && maxShardBytes > 0))
    throw mismatch('ERR_OPTION', 'save', `maxShardBytes ${maxShardBytes}`, 'a number above 0');
}

/** What a path is by its ending. */
export function formatOf(path: string, { format }: WriteOptions): 'folder' | 'gguf' | 'packed' {
  if (format !== undefined) return format;
  if (path.endsWith('.gguf')) return 'gguf';
  return path.endsWith('.switchyard') ? 'packed' : 'folder';
}
