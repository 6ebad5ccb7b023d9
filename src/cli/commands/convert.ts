import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { SwitchyardError } from '../../core/errors.js';
import { loadModel } from '../../generate/handles/load-model.js';
import { FLOAT_FORMATS, type FloatFormat } from '../../models/write/floats.js';
import { newCommand, printJson, printLines } from '../command.js';
import { Interrupt } from '../interrupt.js';
import { MODEL_PATH, numberOf, oneOf } from '../options.js';
import { bytesText } from '../terminal/numbers.js';
import { ByteBar } from '../terminal/progress.js';

interface Flags {
  json?: true;
  dtype?: FloatFormat;
  shard?: number;
  dropHead?: true;
}

const GIGABYTE = 1e9;

export function convertCommand(): Command {
  return newCommand('convert', 'writes a model as a Hugging Face folder or a GGUF file')
    .argument('<in>', MODEL_PATH)
    .argument('<out>', 'a folder, or a file that ends with .gguf or .switchyard')
    .addOption(
      new Option(
        '--dtype <format>',
        `write floats as ${FLOAT_FORMATS.join(', ')}; default: as they are stored`,
      ).argParser(oneOf<FloatFormat>('--dtype', FLOAT_FORMATS)),
    )
    .option(
      '--shard <gigabytes>',
      'most of one safetensors file; default: 5',
      numberOf('--shard', { whole: false, min: 1e-6 }),
    )
    .option('--drop-head', 'leave out a head that GGUF has no names for, as BERT has: a file for embeddings')
    .action(convert);
}

async function convert(from: string, to: string, { json, dtype, shard, dropHead }: Flags): Promise<void> {
  if (resolve(from) === resolve(to))
    throw new SwitchyardError(
      'ERR_OPTION',
      `[convert] got ${to} as source and target, expected another target`,
    );
  using interrupt = new Interrupt();
  const { signal } = interrupt;
  const loading = new ByteBar('loading');
  const model = await loadModel(from, { signal, onProgress: (progress) => loading.update(progress) }).finally(
    () => loading.stop(),
  );
  await using _ = model;
  const writing = new ByteBar('writing');
  let bytes = 0;
  await model
    .save(to, {
      signal,
      onProgress: ({ written, total }) => {
        bytes = total;
        writing.update({ loaded: written, total });
      },
      ...(dtype === undefined ? {} : { dtype }),
      ...(dropHead ? { dropHead } : {}),
      ...(shard === undefined ? {} : { maxShardBytes: shard * GIGABYTE }),
    })
    .finally(() => writing.stop());
  if (json) return printJson({ path: to, bytes });
  printLines(`${to}: ${bytesText(bytes)} of tensors`);
}
