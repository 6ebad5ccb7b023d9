import type { Command } from 'commander';
import { mismatch, SwitchyardError } from '../../core/errors.js';
import type { GenerationResult } from '../../generate/generation.js';
import { newCommand, printJson } from '../command.js';
import { Interrupt } from '../interrupt.js';
import {
  addModelOptions,
  addSamplingOptions,
  type ModelFlags,
  type SamplingFlags,
  samplingOf,
} from '../options.js';
import { openAnyModelOf, requireModel, runGeneration } from '../session.js';
import { timingLine, writeText } from '../terminal/answer.js';
import { styleFor } from '../terminal/style.js';

interface Flags extends ModelFlags, SamplingFlags {
  prompt?: string;
  echo?: true;
}

const DEFAULT_TOKENS = 256;

export function generateCommand(): Command {
  const command = newCommand('generate', 'continues a prompt, or answers it with an encoder-decoder')
    .option('--prompt <text>', "the text to continue; '-' reads it from stdin")
    .option('--echo', 'with --json: also the tokens of the prompt, and how likely each was');
  addSamplingOptions(addModelOptions(command), DEFAULT_TOKENS);
  return command.action(generate);
}

async function generate(flags: Flags): Promise<void> {
  requireModel('generate', flags.model);
  const prompt = flags.prompt === '-' ? await readStdin() : flags.prompt;
  if (prompt === undefined)
    throw new SwitchyardError('ERR_OPTION', '[generate] got no prompt, expected --prompt TEXT', {
      hint: "'--prompt -' reads it from stdin",
    });
  if (flags.echo && !flags.json)
    throw mismatch('ERR_OPTION', 'generate', '--echo without --json', 'both, or neither');
  using interrupt = new Interrupt();
  const { model, loadMs } = await openAnyModelOf('generate', flags, interrupt);
  await using _ = model;
  const write = flags.json ? undefined : writeText;
  const result = await runGeneration(
    (signal) =>
      model.generate(prompt, { ...samplingOf(flags), ...(flags.echo ? { echo: true } : {}), signal }),
    interrupt,
    write,
  );
  if (flags.json) return printJson(answerOf(result, loadMs));
  process.stdout.write('\n');
  if (process.stderr.isTTY)
    process.stderr.write(`${styleFor(process.stderr).dim(timingLine(result, loadMs))}\n`);
}

/** What commands print of a generation with --json. */
export function answerOf({ text, tokens, finishReason, timings, prompt }: GenerationResult, loadMs: number) {
  const rounded = Object.entries({ loadMs, ...timings }).map(([k, v]) => [k, Number(v.toFixed(3))]);
  const times = Object.fromEntries(rounded) as Record<string, number>;
  return { text, tokens, finishReason, ...(prompt ? { prompt } : {}), timings: times };
}

async function readStdin(): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of process.stdin) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}
