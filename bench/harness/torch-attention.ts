/** PyTorch's attention as a peer. */
import { type PeerOptions, type PeerProcess, startPeer } from './peer-process.js';

export interface AttentionLayers {
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  /** Run one after another, each with keys and values of its own. */
  readonly layers: number;
  readonly dtype: 'float32' | 'bfloat16';
}

export class TorchAttention {
  readonly name = 'torch';

  private constructor(readonly process: PeerProcess) {}

  /** Starts the peer, or says why there is none. */
  static async start(
    { peers, threads }: PeerOptions,
    note: (text: string) => void,
  ): Promise<TorchAttention | null> {
    const peer = peers ? await startPeer('torch', 'python', threads, note) : null;
    return peer && new TorchAttention(peer.process);
  }

  /** Makes the layers that `run` runs. */
  async build(layers: AttentionLayers): Promise<void> {
    await this.process.ask({ attention: layers });
  }

  /** Milliseconds of all layers. */
  async run(): Promise<number> {
    const reply = (await this.process.ask({ attend: true })) as { ms: number } | null;
    if (reply === null) throw new Error('it has ended');
    return reply.ms;
  }

  stop(): void {
    this.process.stop();
  }
}
