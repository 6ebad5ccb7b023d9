#!/usr/bin/env node
import { VARIABLES } from '../core/env.js';
import { Shown } from './command.js';
import { EXIT_FAILURE, reportFailure } from './failure.js';
import { buildProgram } from './program.js';

// A reader that has seen enough (head, less) is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

// A variable that is set to nothing counts as not set, as everywhere (core/env.ts).
for (const { name } of Object.values(VARIABLES)) if (process.env[name] === '') delete process.env[name];

const args = process.argv.slice(2);
try {
  await buildProgram().parseAsync(args, { from: 'user' });
} catch (error) {
  if (error instanceof Shown) process.exitCode = error.exitCode;
  else {
    reportFailure(error, args.includes('--json'));
    process.exitCode ??= EXIT_FAILURE; // an interrupt has set its own
  }
}
