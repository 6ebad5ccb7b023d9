import type { Command } from 'commander';
import { mismatch } from '../../core/errors.js';
import { pull as pullRepository } from '../../hub/pull.js';
import { newCommand, printJson, printLines } from '../command.js';
import { Interrupt } from '../interrupt.js';
import { bytesText } from '../terminal/numbers.js';
import { ByteBar } from '../terminal/progress.js';
import { styleFor } from '../terminal/style.js';
import { table } from '../terminal/tables.js';
import { harmless } from '../terminal/text.js';

interface Flags {
  json?: true;
  revision?: string;
  token?: string;
  include?: string[];
}

export function pullCommand(): Command {
  return newCommand('pull', 'downloads a model from a hub; what was broken off continues')
    .argument('<repository>', 'for example org/name, or org/name@revision')
    .option('--revision <name>', "branch, tag or commit; default: 'main'")
    .option('--token <variable>', 'the environment variable that holds the token; default: HF_TOKEN')
    .option(
      '--include <patterns...>',
      "files to take, such as '*Q4_K_M.gguf'; default: weights and text files that loading reads",
    )
    .action(pull);
}

async function pull(repository: string, { revision, token, include, json }: Flags): Promise<void> {
  const secret = token === undefined ? undefined : process.env[token];
  if (token !== undefined && !secret) {
    throw mismatch('ERR_OPTION', 'pull', `no value in the variable '${token}'`, 'a token in it', {
      hint: '--token takes the name of a variable, so that no token stands in a list of processes',
    });
  }
  using interrupt = new Interrupt();
  const bar = new ByteBar('downloading');
  const result = await pullRepository(repository, {
    signal: interrupt.signal,
    onProgress: (progress) => bar.update(progress),
    ...(revision === undefined ? {} : { revision }),
    ...(secret === undefined ? {} : { token: secret }),
    ...(include === undefined ? {} : { include }),
  }).finally(() => bar.stop());
  if (json) return printJson({ repository, ...result });
  const rows = result.files.map(({ name, bytes }) => [harmless(name), bytesText(bytes)]);
  printLines(
    table(['file', 'size'], rows, { right: [1] }),
    '',
    `${styleFor(process.stdout).bold(result.folder)}`,
  );
}
