/** Writes a loaded model: a Hugging Face folder, a GGUF file, or a packed file of our own. */
import { mismatch } from '../../core/errors.js';
import { saveDecoder } from '../packed/save.js';
import { writeFolder } from './folder.js';
import { writeGgufModel } from './gguf.js';
import type { WrittenModel } from './model.js';
import { checkWriteOptions, formatOf, type WriteOptions } from './options.js';

export type { ModelSource, WrittenModel, WrittenParts } from './model.js';
export type { WriteOptions, WriteProgress } from './options.js';

/** @throws SwitchyardError ERR_OPTION, ERR_IO, ERR_ABORTED, ERR_UNSUPPORTED for what such a file has no words for */
export async function writeLoaded(
  path: string,
  model: WrittenModel,
  options: WriteOptions = {},
): Promise<void> {
  checkWriteOptions(options);
  const format = formatOf(path, options);
  const { onProgress, signal, dtype, maxShardBytes, dropHead } = options;
  if (format === 'gguf') return writeGgufModel(path, model, options);
  if (dropHead !== undefined)
    throw mismatch(
      'ERR_OPTION',
      'save',
      `dropHead for a ${format === 'folder' ? 'folder' : 'packed file'}`,
      'a GGUF file',
    );
  if (format === 'folder') return writeFolder(path, model, options);
  if (model.kind !== 'decoder')
    throw mismatch('ERR_UNSUPPORTED', path, `an ${model.kind} for a packed file`, 'a folder or a GGUF file');
  if (dtype !== undefined || maxShardBytes !== undefined)
    throw mismatch('ERR_OPTION', 'save', 'dtype or maxShardBytes for a packed file', 'neither', {
      hint: "'switchyard quantize' writes packed files in other formats",
    });
  await saveDecoder(model.decoder, model.tokenizer, model.device, path, {
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(signal === undefined ? {} : { signal }),
  });
}
