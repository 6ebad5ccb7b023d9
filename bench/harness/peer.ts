/** node-llama-cpp as a peer. */
import { existsSync } from 'node:fs';
import { type PeerOptions, PeerProcess, peerFolder } from './peer-process.js';

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

/** node-llama-cpp on a GGUF file. */
export class Peer {
  readonly name = 'node-llama-cpp';

  private constructor(readonly process: PeerProcess) {}

  /** Starts the peer, or says why there is none. */
  static async start(
    { peers, threads }: PeerOptions,
    model: string | null,
    note: (text: string) => void,
  ): Promise<Peer | null> {
    if (!peers || model === null || !model.endsWith('.gguf')) return null;
    if (!existsSync(`${peerFolder('node-llama-cpp')}/node_modules/node-llama-cpp`)) {
      note('node-llama-cpp is not installed; bench/peers/node-llama-cpp/README.md says how');
      return null;
    }
    const child = new PeerProcess('node-llama-cpp', process.execPath, ['serve.mjs', model, String(threads)]);
    await child.next();
    return new Peer(child);
  }

  async ask(request: PeerRequest): Promise<PeerReply> {
    return (await this.process.ask(request)) as PeerReply;
  }

  stop(): void {
    this.process.stop();
  }
}
