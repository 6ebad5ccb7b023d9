/** Peers: other runtimes in processes of their own, asked over lines of JSON. They are never dependencies. */
import { type ChildProcess, spawn } from 'node:child_process';
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
