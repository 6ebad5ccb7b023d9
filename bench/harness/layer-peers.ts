/** Peers that compute a sparse layer: each a program in bench/peers/ that builds a layer and times its runs. */
import { existsSync } from 'node:fs';
import { type PeerOptions, PeerProcess, peerFolder } from './peer-process.js';

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

/** First line of a peer: what it can do, or why it cannot. */
export interface Ready {
  readonly ready?: true;
  readonly missing?: string;
  readonly formats?: readonly string[];
  /** Whether it computes gradients. */
  readonly train?: boolean;
}

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
      const own = `${peerFolder(name)}/.venv/bin/python3`;
      const command = language === 'node' ? process.execPath : existsSync(own) ? own : 'python3';
      const file = language === 'node' ? 'serve.mjs' : 'serve.py';
      const child = new PeerProcess(name, command, [file, String(threads)]);
      const ready = (await child.line()) as Ready | null;
      if (ready?.ready) return new LayerPeer(child, ready, note);
      child.stop();
      const why = ready?.missing ?? `no ${language}`;
      note(`${name} is not installed (${why}); bench/peers/${name}/README.md says how`);
      return null;
    }),
  );
  return started.filter((peer) => peer !== null);
}
