/** What all commands share: strict arguments, errors of our kind, --json. */
import { Command, type CommanderError } from 'commander';
import { usageError } from './failure.js';

/** Commander's codes for help and version: no failure. */
const SHOWN = new Set(['commander.help', 'commander.helpDisplayed', 'commander.version']);

/** Help or version was printed: the command ends without doing anything else. */
export class Shown extends Error {
  constructor(readonly exitCode: number) {
    super('shown');
  }
}

/** A command whose mistakes are thrown as SwitchyardError instead of printed. */
export function newCommand(name: string, about: string): Command {
  const command = new Command(name)
    .description(about)
    .helpOption('-h, --help', 'show this help')
    .configureOutput({ outputError: () => undefined })
    .exitOverride((error: CommanderError) => {
      throw SHOWN.has(error.code) ? new Shown(error.exitCode) : usageError(name, error);
    });
  return name === 'switchyard' ? command : command.option('--json', 'print one JSON object');
}

export const printJson = (value: unknown): void => {
  process.stdout.write(`${JSON.stringify(value)}\n`);
};
export const printLines = (...lines: readonly string[]): void => {
  process.stdout.write(`${lines.join('\n')}\n`);
};
