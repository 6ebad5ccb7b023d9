/** A paged key-value cache (Kwon et al. 2023): blocks of a fixed number of tokens, handed to sequences as they grow. */
import type { Device } from '../core/device.js';
import { type DType, dtypeSize } from '../core/dtype.js';
import type { KvType } from '../core/format.js';
import { kvWrite, type PagedKeys, storedChannels } from '../core/ops/attention.js';
import { concat, reshape, slice } from '../core/ops/shape.js';
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
  /** A value is the first `value` channels of its key and takes no place of its own. Default false. */
  readonly valuesInKeys?: boolean;
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
  /** Per layer [blocks, G, block, Cv]; a number where the keys hold values of so many channels. */
  readonly v: readonly (Tensor | number)[];
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
      return Tensor.ofBuffer(device.allocate(bytes), dtype, shape);
    };
    const k: Tensor[] = [];
    const v: (Tensor | number)[] = [];
    [this.k, this.v] = [k, v];
    try {
      for (const { heads, key, value, valuesInKeys } of layers) {
        k.push(empty(this.blocks, heads, storedChannels(dtype, key), KV_BLOCK));
        v.push(valuesInKeys ? value : empty(this.blocks, heads, KV_BLOCK, storedChannels(dtype, value)));
      }
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** What holds keys and values, of all layers. */
  get tensors(): Tensor[] {
    return [...this.k, ...this.v].filter((t) => typeof t !== 'number');
  }

  /** Keys [N, G, C] and values [N, G, Cv] of a layer go to `slots`; the caches after that. */
  write(layer: number, k: Tensor, v: Tensor, slots: Tensor): Pick<PagedKeys, 'k' | 'v'> {
    const values = this.v[layer] as Tensor | number;
    return {
      k: kvWrite(this.k[layer] as Tensor, k, slots, { transpose: true }),
      v: typeof values === 'number' ? values : kvWrite(values, v, slots),
    };
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
    for (const t of this.tensors) this.#device.addon.disposeBuffer(this.#device.buffer(t));
  }
}

/** [caches]: one element of each, an output that keeps the writes alive where a program does nothing else. */
export const keepAlive = (caches: readonly Tensor[]): Tensor =>
  concat(
    caches.map((cache) => slice(reshape(cache, [cache.size]), 0, 0, 1)),
    0,
  );
