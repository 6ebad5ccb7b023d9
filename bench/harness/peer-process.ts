/** Peers: other runtimes in processes of their own, asked over lines of JSON. They are never dependencies. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { peakMemoryOf } from './memory.js';

/** Where a peer's files are. */
export const peerFolder = (name: string): string =>
  fileURLToPath(new URL(`../peers/${name}`, import.meta.url));

/** A process that answers each line with a line. */
export class PeerProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  constructor(
    readonly name: string,
    command: string,
    args: readonly string[],
  ) {
    this.#child = spawn(command, args, { cwd: peerFolder(name), stdio: ['pipe', 'pipe', 'inherit'] });
    // Where the command does not exist, its output just ends.
    this.#child.on('error', () => undefined);
    this.#child.stdin?.on('error', () => undefined);
    this.#reader = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** The most memory it has held so far, in bytes; null where the system does not tell. */
  get peakMemory(): number | null {
    return peakMemoryOf(this.#child.pid ?? 0);
  }

  /** Its answer to a line; null at its end. */
  ask(request: unknown): Promise<unknown> {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    return this.line();
  }

  stop(): void {
    this.#reader.close();
    this.#child.stdin?.end();
    this.#child.kill();
  }

  /** Its next line; null at its end. */
  async line(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    return done ? null : JSON.parse(value);
  }
}

export interface PeerOptions {
  readonly peers: boolean;
  readonly threads: number;
}

/** First line of a peer: what it can do, or why it cannot. */
export interface Ready {
  readonly ready?: true;
  readonly missing?: string;
  /** Weight formats that it has layers for. */
  readonly formats?: readonly string[];
  /** Whether it computes gradients. */
  readonly train?: boolean;
}

/** Starts the program serve.py or serve.mjs of a peer, or says why it is not there. */
export async function startPeer(
  name: string,
  language: 'python' | 'node',
  threads: number,
  note: (text: string) => void,
): Promise<{ process: PeerProcess; ready: Ready } | null> {
  const own = `${peerFolder(name)}/.venv/bin/python3`;
  const command = language === 'node' ? process.execPath : existsSync(own) ? own : 'python3';
  const file = language === 'node' ? 'serve.mjs' : 'serve.py';
  const child = new PeerProcess(name, command, [file, String(threads)]);
  const ready = (await child.line()) as Ready | null;
  if (ready?.ready) return { process: child, ready };
  child.stop();
  const why = ready?.missing ?? `no ${language}`;
  note(`${name} is not installed (${why}); bench/peers/${name}/README.md says how`);
  return null;
}
