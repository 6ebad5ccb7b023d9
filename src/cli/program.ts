import { createRequire } from 'node:module';
import type { Command } from 'commander';
import { newCommand } from './command.js';
import { chatCommand } from './commands/chat.js';
import { convertCommand } from './commands/convert.js';
import { doctorCommand } from './commands/doctor.js';
import { embedCommand } from './commands/embed.js';
import { generateCommand } from './commands/generate.js';
import { inspectCommand } from './commands/inspect.js';
import { pullCommand } from './commands/pull.js';
import { quantizeCommand } from './commands/quantize.js';
import { routesCommand } from './commands/routes.js';
import { startCommand } from './commands/start.js';

/** The command line: one file in commands/ for each command. */
export function buildProgram(): Command {
  const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };
  const program = newCommand('switchyard', 'runs and inspects Mixture-of-Experts language models');
  program.version(version, '-V, --version', 'print the version');
  program.helpCommand(false);
  for (const make of [
    generateCommand,
    chatCommand,
    embedCommand,
    inspectCommand,
    routesCommand,
    quantizeCommand,
    convertCommand,
    pullCommand,
    doctorCommand,
    startCommand,
  ])
    program.addCommand(make());
  return program;
}
