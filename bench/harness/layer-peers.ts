/** Peers that compute a sparse layer: each a program in bench/peers/ that builds a layer and times its runs. */
import { type PeerOptions, type PeerProcess, type Ready, startPeer } from './peer-process.js';

export interface Block {
  readonly dModel: number;
  readonly dFf: number;
  readonly nExperts: number;
  readonly topK: number;
  /** As our weight formats are named; a peer takes its own nearest one. */
  readonly format: string;
}

/** Folders of bench/peers/ and what runs there. */
const PROGRAMS = [
  { name: 'torch', language: 'python' },
  { name: 'kt-kernel', language: 'python' },
  { name: 'onnxruntime-node', language: 'node' },
] as const;

export class LayerPeer {
  readonly #formats: ReadonlySet<string>;
  #ended = false;

  /** @param process of which the first line was `ready` */
  constructor(
    readonly process: PeerProcess,
    ready: Ready,
    readonly note: (text: string) => void,
  ) {
    this.#formats = new Set(ready.formats);
    this.trains = ready.train ?? false;
  }

  readonly trains: boolean;

  get name(): string {
    return this.process.name;
  }

  /** Makes the layer that the next questions are about and drops the last one; false where it has none of the kind. */
  async build(block: Block): Promise<boolean> {
    const known = this.#formats.has(block.format);
    const reply = (await this.#ask({ build: known ? block : null })) as { refused?: string } | null;
    if (reply?.refused) this.note(`${this.name} has no such layer (${block.format}): ${reply.refused}`);
    return known && reply !== null && reply.refused === undefined;
  }

  /** Milliseconds of one forward pass. */
  forward(tokens: number): Promise<number> {
    return this.#time({ forward: tokens });
  }

  /** Milliseconds of one forward and backward pass, with the gradients of the input and of every parameter. */
  train(tokens: number): Promise<number> {
    return this.#time({ train: tokens });
  }

  stop(): void {
    this.process.stop();
  }

  async #time(request: unknown): Promise<number> {
    const reply = (await this.#ask(request)) as { ms: number } | null;
    if (reply === null) throw new Error('it has ended');
    return reply.ms;
  }

  /** null once the process has ended: a peer that crashes is missing from there on, and we go on. */
  async #ask(request: unknown): Promise<unknown> {
    if (this.#ended) return null;
    const reply = await this.process.ask(request);
    this.#ended = reply === null;
    if (this.#ended) this.note(`${this.name} has ended by itself; it is left out from here on`);
    return reply;
  }
}

/** Starts every peer that is installed; says of the others why they are not there. */
export async function startLayerPeers(
  { peers, threads }: PeerOptions,
  note: (text: string) => void,
): Promise<LayerPeer[]> {
  if (!peers) return [];
  const started = await Promise.all(
    PROGRAMS.map(async ({ name, language }) => {
      const peer = await startPeer(name, language, threads, note);
      return peer && new LayerPeer(peer.process, peer.ready, note);
    }),
  );
  return started.filter((peer) => peer !== null);
}
