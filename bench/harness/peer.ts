/** Peers: other runtimes in processes of their own, asked over lines of JSON. They are never dependencies. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const folder = fileURLToPath(new URL('../peers/node-llama-cpp', import.meta.url));

export interface PeerRequest {
  /** Ids to read before anything else; the cache is cleared first. */
  readonly prompt: readonly number[];
  /** Tokens to write after it, greedily. */
  readonly newTokens: number;
}
export interface PeerReply {
  readonly prefillMs: number;
  /** From the first new token to the last. */
  readonly decodeMs: number;
}

export class Peer {
  readonly name = 'node-llama-cpp';
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #reader: Interface;

  private constructor(model: string, threads: number) {
    this.#child = spawn(process.execPath, ['serve.mjs', model, String(threads)], {
      cwd: folder,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#reader = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    this.#lines = this.#reader[Symbol.asyncIterator]();
  }

  /** Starts the peer on a GGUF file, or says why there is none. */
  static async start(
    { peers, threads }: { peers: boolean; threads: number },
    model: string | null,
    note: (text: string) => void,
  ): Promise<Peer | null> {
    if (!peers || model === null || !model.endsWith('.gguf')) return null;
    if (!existsSync(`${folder}/node_modules/node-llama-cpp`)) {
      note('node-llama-cpp is not installed; bench/peers/node-llama-cpp/README.md says how');
      return null;
    }
    const peer = new Peer(model, threads);
    await peer.#next();
    return peer;
  }

  async ask(request: PeerRequest): Promise<PeerReply> {
    this.#child.stdin?.write(`${JSON.stringify(request)}\n`);
    return (await this.#next()) as PeerReply;
  }

  stop(): void {
    this.#reader.close();
    this.#child.stdin?.end();
    this.#child.kill();
  }

  async #next(): Promise<unknown> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`[${this.name}] got its end, expected a reply; its own message stands above`);
    return JSON.parse(value);
  }
}
