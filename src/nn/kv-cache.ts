/** A paged key-value cache (Kwon et al. 2023): blocks of a fixed number of tokens, handed to sequences as they grow. */
import type { Device } from '../core/device.js';
import { type DType, dtypeSize } from '../core/dtype.js';
import type { KvType } from '../core/format.js';
import { storedChannels } from '../core/ops/attention.js';
import { Tensor } from '../core/tensor.js';
import { BlockPool, KV_BLOCK } from './kv-blocks.js';
import type { BlockCopy, SequenceCache } from './kv-sequence.js';

/** dtype of the tensors of a cache. */
export const KV_DTYPE: Readonly<Record<KvType, DType>> = { f32: 'f32', f16: 'f16', bf16: 'bf16', int8: 'u8' };

/** What a layer keeps of a token: heads, and the channels of a key and of a value. */
export interface KvWidths {
  readonly heads: number;
  readonly key: number;
  readonly value: number;
}

export interface KvCacheOptions {
  layers: readonly KvWidths[];
  /** Tokens that all sequences together may hold; rounded up to blocks. */
  tokens: number;
  /** How keys and values are stored. */
  type: KvType;
}

export class KvCache implements SequenceCache {
  readonly pool: BlockPool;
  /** Per layer [blocks, G, C, block]; int8 as `PagedKeys` says. */
  readonly k: readonly Tensor[];
  /** Per layer [blocks, G, block, Cv]. */
  readonly v: readonly Tensor[];
  readonly type: KvType;
  readonly #device: Device;
  #copies: BlockCopy[] = [];

  constructor(device: Device, { layers, tokens, type }: KvCacheOptions) {
    this.#device = device;
    this.type = type;
    this.pool = new BlockPool(Math.ceil(tokens / KV_BLOCK));
    const dtype = KV_DTYPE[type];
    const empty = (...shape: number[]): Tensor => {
      const bytes = shape.reduce((n, size) => n * size, dtypeSize(dtype));
      return Tensor.ofBuffer(device.addon.createBuffer(bytes), dtype, shape);
    };
    this.k = layers.map(({ heads, key }) => empty(this.blocks, heads, storedChannels(dtype, key), KV_BLOCK));
    this.v = layers.map(({ heads, value }) =>
      empty(this.blocks, heads, KV_BLOCK, storedChannels(dtype, value)),
    );
  }

  get blocks(): number {
    return this.pool.blocks;
  }

  /** Blocks that no sequence holds. */
  get freeBlocks(): number {
    return this.pool.free;
  }

  copyLater(copy: BlockCopy): void {
    this.#copies.push(copy);
  }

  copyNever(copy: BlockCopy): void {
    this.#copies = this.#copies.filter((c) => c !== copy);
  }

  /** Copies to be done before the next step writes, in order; forgets them. */
  takeCopies(): BlockCopy[] {
    const copies = this.#copies;
    this.#copies = [];
    return copies;
  }

  dispose(): void {
    for (const t of [...this.k, ...this.v]) this.#device.addon.disposeBuffer(this.#device.buffer(t));
  }
}
