/** llama.cpp's own bench, a program that is run anew for every timing. */
import { execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import type { ModelPeer } from './model-peer.js';

const NAME = process.platform === 'win32' ? 'llama-bench.exe' : 'llama-bench';

/** The program that LLAMA_BENCH names, else the one of the path; null: there is none. */
export function findLlamaBench(env: NodeJS.ProcessEnv = process.env): string | null {
  if (env.LLAMA_BENCH) return env.LLAMA_BENCH;
  for (const folder of (env.PATH ?? '').split(path.delimiter)) {
    const file = path.join(folder, NAME);
    try {
      accessSync(file, constants.X_OK);
      return file;
    } catch {}
  }
  return null;
}

/**
 * Milliseconds of the one timing in what `-o jsonl` prints.
 * @throws Error where it tells of none, or of another number of tokens
 */
export function parseLlamaBench(output: string, expected: { prompt: number; newTokens: number }): number {
  const line = output
    .split('\n')
    .map((l) => l.trim())
    .findLast((l) => l.startsWith('{'));
  if (line === undefined) throw new Error('[llama-bench] got no line of JSON, expected one');
  const { n_prompt, n_gen, samples_ns } = JSON.parse(line) as Record<string, unknown>;
  if (n_prompt !== expected.prompt || n_gen !== expected.newTokens)
    throw new Error(
      `[llama-bench] got a timing of ${n_prompt} prompt and ${n_gen} new tokens, expected ${expected.prompt} and ${expected.newTokens}`,
    );
  const [ns] = Array.isArray(samples_ns) ? (samples_ns as unknown[]) : [];
  if (typeof ns !== 'number' || !(ns > 0))
    throw new Error(`[llama-bench] got samples_ns ${JSON.stringify(samples_ns)}, expected a time`);
  return ns / 1e6;
}

export function llamaBench(program: string, model: string, threads: number): ModelPeer {
  const run = async (prompt: number, newTokens: number, depth: number): Promise<number> => {
    const sizes = ['-p', prompt, '-n', newTokens, '-d', depth, '-t', threads, '-r', 1, '-ngl', 0].map(String);
    const { stdout } = await promisify(execFile)(program, ['-m', model, ...sizes, '-o', 'jsonl']);
    return parseLlamaBench(stdout, { prompt, newTokens });
  };
  return {
    name: 'llama-bench',
    prefill: (prompt) => run(prompt.length, 0, 0),
    // It times so many new tokens, not the time between them: there is one less.
    decode: (prompt, newTokens) => run(0, newTokens - 1, prompt.length),
    stop: () => undefined,
  };
}
