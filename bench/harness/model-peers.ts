/** Peers that run a GGUF file: node-llama-cpp, and llama.cpp's own bench. */
import { existsSync } from 'node:fs';
import type { Contestant } from './contest.js';
import { findLlamaBench, llamaBench } from './llama-bench.js';
import type { ModelPeer } from './model-peer.js';
import { type PeerOptions, PeerProcess, peerFolder } from './peer-process.js';

/** Starts the peers that are installed; says of node-llama-cpp why it is not there. */
export async function startModelPeers(
  options: PeerOptions,
  model: string | null,
  note: (text: string) => void,
): Promise<ModelPeer[]> {
  if (!options.peers || model === null || !model.endsWith('.gguf')) return [];
  const peers: ModelPeer[] = [];
  const node = await NodeLlamaCpp.start(options, model, note);
  if (node) peers.push(node);
  const program = findLlamaBench();
  if (program) peers.push(llamaBench(program, model, options.threads));
  return peers;
}

/** Every peer that can answer, for a contest. */
export const contestants = (
  peers: readonly ModelPeer[],
  ask: (peer: ModelPeer) => Promise<number> | undefined,
): Contestant[] =>
  peers.map((peer) => ({
    name: peer.name,
    run: async () => {
      const ms = await ask(peer);
      if (ms === undefined) throw new Error('it has no such measurement');
      return ms;
    },
  }));

interface Reply {
  readonly prefillMs: number;
  readonly decodeMs: number;
}

class NodeLlamaCpp implements ModelPeer {
  readonly name = 'node-llama-cpp';

  private constructor(
    readonly process: PeerProcess,
    readonly bytesBefore: number,
  ) {}

  static async start(
    { threads }: PeerOptions,
    model: string,
    note: (text: string) => void,
  ): Promise<NodeLlamaCpp | null> {
    if (!existsSync(`${peerFolder('node-llama-cpp')}/node_modules/node-llama-cpp`)) {
      note('node-llama-cpp is not installed; bench/peers/node-llama-cpp/README.md says how');
      return null;
    }
    const child = new PeerProcess('node-llama-cpp', process.execPath, ['serve.mjs', model, String(threads)]);
    const ready = (await child.line()) as { bytesBefore: number } | null;
    if (ready) return new NodeLlamaCpp(child, ready.bytesBefore);
    note('node-llama-cpp cannot load this model; its own message stands above');
    child.stop();
    return null;
  }

  async prefill(prompt: readonly number[]): Promise<number> {
    return (await this.#ask([prompt], 0)).prefillMs;
  }

  async decode(prompt: readonly number[], newTokens: number): Promise<number> {
    return (await this.#ask([prompt], newTokens)).decodeMs;
  }

  async decodeMany(prompts: readonly (readonly number[])[], newTokens: number): Promise<number> {
    return (await this.#ask(prompts, newTokens)).decodeMs;
  }

  peakMemory(): number | null {
    const peak = this.process.peakMemory;
    return peak === null ? null : peak - this.bytesBefore;
  }

  stop(): void {
    this.process.stop();
  }

  async #ask(prompts: readonly (readonly number[])[], newTokens: number): Promise<Reply> {
    const reply = (await this.process.ask({ prompts, newTokens })) as Reply | null;
    if (reply === null) throw new Error('it has ended');
    return reply;
  }
}
