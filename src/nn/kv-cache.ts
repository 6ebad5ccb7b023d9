/** A paged key-value cache (Kwon et al. 2023): blocks of a fixed number of tokens, handed to sequences as they grow. */
import type { Device } from '../core/device.js';
import { type DType, dtypeSize } from '../core/dtype.js';
import { SwitchyardError } from '../core/errors.js';
import type { KvType } from '../core/format.js';
import { storedChannels } from '../core/ops/attention.js';
import { Tensor } from '../core/tensor.js';

/** Tokens per block: small enough to waste little, large enough that a block table stays short. */
export const KV_BLOCK = 32;

/** dtype of the tensors of a cache. */
export const KV_DTYPE: Readonly<Record<KvType, DType>> = { f32: 'f32', f16: 'f16', bf16: 'bf16', int8: 'u8' };

export interface KvCacheOptions {
  nLayers: number;
  nKvHeads: number;
  headDim: number;
  /** Tokens that all sequences together may hold; rounded up to blocks. */
  tokens: number;
  /** How keys and values are stored. */
  type: KvType;
}

export class KvCache {
  readonly blocks: number;
  /** Per layer [blocks, G, C, block]; int8 as `PagedKeys` says. */
  readonly k: readonly Tensor[];
  /** Per layer [blocks, G, block, C]. */
  readonly v: readonly Tensor[];
  readonly #free: number[];
  readonly #device: Device;

  constructor(device: Device, { nLayers, nKvHeads, headDim, tokens, type }: KvCacheOptions) {
    this.#device = device;
    this.blocks = Math.ceil(tokens / KV_BLOCK);
    const dtype = KV_DTYPE[type];
    const stored = storedChannels(dtype, headDim);
    const layers = (...shape: number[]): Tensor[] =>
      Array.from({ length: nLayers }, () => {
        const bytes = shape.reduce((n, size) => n * size, dtypeSize(dtype));
        return Tensor.ofBuffer(device.addon.createBuffer(bytes), dtype, shape);
      });
    this.k = layers(this.blocks, nKvHeads, stored, KV_BLOCK);
    this.v = layers(this.blocks, nKvHeads, KV_BLOCK, stored);
    this.#free = Array.from({ length: this.blocks }, (_, i) => this.blocks - 1 - i);
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  take(): number {
    const block = this.#free.pop();
    if (block === undefined) {
      throw new SwitchyardError(
        'ERR_CONTEXT_LENGTH',
        `[kv cache] got a request for more than ${this.blocks * KV_BLOCK} tokens, expected all sequences together to fit`,
        {
          hint: 'load the model with a larger contextLength or cacheTokens, or run fewer sequences at once',
        },
      );
    }
    return block;
  }

  release(blocks: readonly number[]): void {
    this.#free.push(...blocks);
  }

  dispose(): void {
    for (const t of [...this.k, ...this.v]) this.#device.addon.disposeBuffer(this.#device.buffer(t));
  }
}

/** The place of one sequence in the cache. */
export class KvSequence {
  /** Tokens written so far. */
  length = 0;
  readonly #blocks: number[] = [];

  constructor(readonly cache: KvCache) {}

  get blocks(): readonly number[] {
    return this.#blocks;
  }

  /** Makes room for `count` more tokens and returns the slot (block · KV_BLOCK + place) of each. */
  extend(count: number): number[] {
    const slots: number[] = [];
    for (let i = this.length; i < this.length + count; i++) {
      const at = Math.floor(i / KV_BLOCK);
      if (at === this.#blocks.length) this.#blocks.push(this.cache.take());
      slots.push((this.#blocks[at] as number) * KV_BLOCK + (i % KV_BLOCK));
    }
    this.length += count;
    return slots;
  }

  release(): void {
    this.cache.release(this.#blocks.splice(0));
    this.length = 0;
  }
}
