/** Peers: other runtimes in processes of their own, asked over lines of JSON. They are never dependencies. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';

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

  ask(request: unknown): Promise<unknown> {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    return this.next();
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

  async next(): Promise<unknown> {
    const reply = await this.line();
    if (reply === null)
      throw new Error(`[${this.name}] got its end, expected a reply; its own message stands above`);
    return reply;
  }
}

export interface PeerOptions {
  readonly peers: boolean;
  readonly threads: number;
}
