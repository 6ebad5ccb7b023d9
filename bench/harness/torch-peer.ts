/** PyTorch with transformers as a peer of sparse layers. */
import { existsSync } from 'node:fs';
import { type PeerOptions, PeerProcess, peerFolder } from './peer-process.js';

export interface SparseBlock {
  readonly dModel: number;
  readonly dFf: number;
  readonly nExperts: number;
  readonly topK: number;
  readonly dtype: 'float32' | 'bfloat16';
}

/** The sparse blocks of transformers on PyTorch. */
export class TorchPeer {
  readonly name = 'torch';

  private constructor(readonly process: PeerProcess) {}

  /** Starts the peer, or says why there is none. */
  static async start(
    { peers, threads }: PeerOptions,
    note: (text: string) => void,
  ): Promise<TorchPeer | null> {
    if (!peers) return null;
    const own = `${peerFolder('torch')}/.venv/bin/python3`;
    const child = new PeerProcess('torch', existsSync(own) ? own : 'python3', ['serve.py', String(threads)]);
    const ready = (await child.line()) as { ready?: true; missing?: string } | null;
    if (ready?.ready) return new TorchPeer(child);
    child.stop();
    note(`torch is not installed (${ready?.missing ?? 'no python3'}); bench/peers/torch/README.md says how`);
    return null;
  }

  /** Makes the block that the next questions are about. */
  async build(block: SparseBlock): Promise<void> {
    await this.process.ask({ build: block });
  }

  /** Milliseconds of one forward pass. */
  async forward(tokens: number): Promise<number> {
    return ((await this.process.ask({ forward: tokens })) as { ms: number }).ms;
  }

  /** Milliseconds of one forward and backward pass, with the gradients of the input and of every parameter. */
  async train(tokens: number): Promise<number> {
    return ((await this.process.ask({ train: tokens })) as { ms: number }).ms;
  }

  stop(): void {
    this.process.stop();
  }
}
