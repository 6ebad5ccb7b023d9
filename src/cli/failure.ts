/** How the commands fail: one form for people, one for programs. */
import type { CommanderError } from 'commander';
import { SwitchyardError } from '../core/errors.js';
import { styleFor } from './terminal/style.js';
import { harmless } from './terminal/text.js';

export const EXIT_FAILURE = 1;
/** 128 + SIGINT, as shells have it. */
export const EXIT_INTERRUPTED = 130;

/** A mistake in the arguments, in the form of all other errors. */
export function usageError(command: string, error: CommanderError): SwitchyardError {
  const [, text = error.message, near] =
    /^(?:error: )?([\s\S]*?)(?:\n\((Did you mean [\s\S]*)\))?$/.exec(error.message) ?? [];
  const help = `switchyard${command === 'switchyard' ? '' : ` ${command}`} --help`;
  return new SwitchyardError('ERR_OPTION', `[${command}] got ${gotOf(error.code, text)}`, {
    hint: near ? `d${near.slice(1)}` : `${help} lists what there is`,
  });
}

function gotOf(code: string, text: string): string {
  const quoted = /'.*'/.exec(text)?.[0] ?? '';
  switch (code) {
    case 'commander.unknownOption':
      return `unknown option ${quoted}, expected a known one`;
    case 'commander.unknownCommand':
      return `unknown command ${quoted}, expected a known one`;
    case 'commander.optionMissingArgument':
      return `option ${quoted} without a value, expected one`;
    case 'commander.missingArgument':
      return `no argument ${quoted}, expected one`;
    case 'commander.excessArguments':
      return 'arguments that nobody asked for, expected fewer';
    default:
      return `${text}, expected valid arguments`;
  }
}

interface Failure {
  code: string;
  message: string;
  hint?: string;
}

function describe(error: unknown): Failure {
  if (error instanceof SwitchyardError) {
    const { code, message, hint } = error;
    return hint === undefined ? { code, message } : { code, message, hint };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: 'ERR_INTERNAL', message: `[switchyard] got ${message}, expected no such failure` };
}

/** Prints the error: on stderr, or with `json` as the one object on stdout. */
export function reportFailure(error: unknown, json: boolean): void {
  const failure = describe(error);
  if (json) {
    process.stdout.write(`${JSON.stringify({ error: failure })}\n`);
    return;
  }
  const style = styleFor(process.stderr);
  const lines = [`${style.bad('error:')} ${harmless(failure.message)}`];
  if (failure.hint !== undefined) lines.push(`${style.accent('hint:')} ${harmless(failure.hint)}`);
  if (failure.code === 'ERR_INTERNAL' && error instanceof Error) lines.push(style.dim(error.stack ?? ''));
  process.stderr.write(`${lines.join('\n')}\n`);
}
