import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('../..', import.meta.url));
const main = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface CliRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  env?: NodeJS.ProcessEnv;
  /** Text on stdin; it ends after it. */
  input?: string;
  /** Interrupt (Ctrl-C) when the first text comes out. */
  interruptAtFirstText?: boolean;
}

/** Runs the built command line in a process of its own, its streams being pipes. */
export function runCli(
  args: readonly string[],
  { env = {}, input = '', interruptAtFirstText = false }: CliOptions = {},
): Promise<CliRun> {
  if (!existsSync(main)) throw new Error(`${main} is missing: npm run build:ts`);
  // The variables of whoever runs the tests must not decide.
  const clean = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('SWITCHYARD_')),
  );
  const child = spawn(process.execPath, [main, ...args], { cwd: root, env: { ...clean, ...env } });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    if (interruptAtFirstText && stdout === '') child.kill('SIGINT');
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.end(input);
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code) => resolve({ code, stdout, stderr }));
  });
}

/** The one JSON object on stdout. */
export function jsonOf({ stdout }: CliRun): Record<string, unknown> {
  if (stdout.split('\n').length !== 2) throw new Error(`expected one line of JSON, got ${stdout}`);
  return JSON.parse(stdout);
}
