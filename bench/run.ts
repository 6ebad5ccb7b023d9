/** npm run bench [-- SELECTOR…] [--json] [--smoke]: measures the machine's limits and us as shares of them. */
import { fork } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { Command, InvalidArgumentError } from 'commander';
import type { BenchCase, BenchOptions } from './harness/case.js';
import type { Message } from './harness/child.js';
import type { Figure } from './harness/figure.js';
import { figureTable } from './harness/report.js';
import { reportFiles } from './harness/report-page.js';
import { type Selectable, selectCases } from './harness/select.js';

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
const DEFAULT_MODEL = here('../../shared/models/SmolLM2-135M-Instruct.Q4_1.gguf');

interface Found extends Selectable {
  readonly about: string;
  readonly url: string;
}

async function findCases(): Promise<Found[]> {
  const files = readdirSync(here('cases')).filter((file) => file.endsWith('.ts'));
  return Promise.all(
    files.sort().map(async (file) => {
      const url = pathToFileURL(here(`cases/${file}`)).href;
      const { default: found } = (await import(url)) as { default: BenchCase };
      return { name: file.slice(0, -3), words: found.words ?? [], about: found.about, url };
    }),
  );
}

const whole = (text: string): number => {
  const n = Number(text);
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError('expected a whole number from 1 on');
  return n;
};
const wholes = (text: string, before: number[] = []): number[] => [...before, whole(text)];
const positive = (text: string): number => {
  const n = Number(text);
  if (!(n > 0)) throw new InvalidArgumentError('expected a number above 0');
  return n;
};

const program = new Command('bench')
  .description('Measures the limits of this machine and Switchyard as shares of them.')
  .argument('[selectors...]', 'cases by name, part of a name, or word; default: all')
  .option('--json', 'one JSON line a figure')
  .option('--report <folder>', 'also write the figures as a Markdown page with charts (SVG)')
  .option('--smoke', 'every case once at tiny size: shows that it runs, says nothing about speed')
  .option('--list', 'the cases and their words')
  .option('--model <paths...>', 'GGUF files or folders; default: SWITCHYARD_MODEL, else the shared SmolLM2')
  .option('--draft <path>', 'a smaller model of the same vocabulary, for guesses')
  .option('--threads <n>', 'threads that kernels use; default: all cores', whole)
  .option('--format <names...>', 'weight formats of cases with random weights')
  .option('--shape <names...>', 'sparse layers by a part of their names: olmoe, mixtral, qwen3')
  .option('--tokens <n...>', 'numbers of tokens that meet a sparse layer', wholes)
  .option('--runs <n>', 'least runs of each figure', whole, 5)
  .option('--seconds <s>', 'time for the runs of a figure', positive, 2)
  .option('--no-peers', 'leave the peers out')
  .parse();

interface Flags {
  json?: boolean;
  report?: string;
  smoke?: boolean;
  list?: boolean;
  model?: string[];
  draft?: string;
  threads?: number;
  format?: string[];
  shape?: string[];
  tokens?: number[];
  runs: number;
  seconds: number;
  peers: boolean;
}
const flags = program.opts<Flags>();
const inEnvironment = process.env.SWITCHYARD_MODEL ?? (existsSync(DEFAULT_MODEL) ? DEFAULT_MODEL : null);
/** Smoke runs know no model file. */
const models: readonly (string | null)[] = flags.smoke ? [null] : (flags.model ?? [inEnvironment]);
const optionsFor = (model: string | null): BenchOptions => ({
  smoke: flags.smoke ?? false,
  threads: flags.threads ?? (Number(process.env.SWITCHYARD_THREADS) || availableParallelism()),
  model,
  draft: flags.draft ?? null,
  formats: flags.format ?? [],
  shapes: flags.shape ?? [],
  tokens: flags.tokens ?? [],
  runs: flags.smoke ? 1 : flags.runs,
  seconds: flags.smoke ? 0 : flags.seconds,
  peers: flags.peers && !flags.smoke,
});

/** Runs a case in a process of its own: no case meets the memory or the heat of another. */
function runCase(
  { name, url }: Found,
  options: BenchOptions,
): Promise<{ figures: Figure[]; failed: boolean }> {
  return new Promise((resolve) => {
    const child = fork(here('harness/child.ts'), [name, url, JSON.stringify(options)], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const figures: Figure[] = [];
    let failed = false;
    child.on('message', (message: Message) => {
      if (message.kind === 'figure') {
        figures.push(message.figure);
        if (flags.json) process.stdout.write(`${JSON.stringify(message.figure)}\n`);
      } else if (message.kind === 'note') process.stderr.write(`${name}: ${message.text}\n`);
      else process.stderr.write(`${name} failed: ${message.text}\n`);
    });
    child.on('error', (error) => {
      process.stderr.write(`${name} failed: ${error.message}\n`);
      failed = true;
    });
    child.on('close', (code, signal) => {
      if (signal) process.stderr.write(`${name} failed: ended by ${signal}\n`);
      resolve({ figures, failed: failed || code !== 0 });
    });
  });
}

const cases = await findCases();
let chosen: Found[] = [];
try {
  chosen = selectCases(cases, program.args);
} catch (error) {
  program.error((error as Error).message);
}
if (flags.list) {
  for (const c of chosen)
    console.log(`${c.name.padEnd(13)} ${c.about}${c.words.length ? ` (${c.words.join(', ')})` : ''}`);
} else {
  const runs = chosen.flatMap((found) =>
    (found.words.includes('model') ? models : models.slice(0, 1)).map((model) => ({ found, model })),
  );
  const measured = new Map<Found, Figure[]>(chosen.map((found) => [found, []]));
  const failures: string[] = [];
  let machine = '';
  for (const { found, model } of runs) {
    const { figures, failed } = await runCase(found, optionsFor(model));
    measured.get(found)?.push(...figures);
    if (failed) failures.push(found.name);
    if (flags.json || figures.length === 0) continue;
    if (figures[0]?.machine !== machine) {
      machine = figures[0]?.machine ?? '';
      console.log(machine);
    }
    console.log(`\n${found.name}: ${found.about}\n${figureTable(figures)}`);
  }
  if (flags.report !== undefined) {
    const sections = [...measured].map(([{ name, about }, figures]) => ({ name, about, figures }));
    mkdirSync(flags.report, { recursive: true });
    for (const [file, text] of await reportFiles(sections))
      writeFileSync(path.join(flags.report, file), text);
  }
  if (failures.length > 0) {
    console.error(`bench: ${failures.length} of ${runs.length} runs failed: ${failures.join(', ')}`);
    process.exitCode = 1;
  }
}
