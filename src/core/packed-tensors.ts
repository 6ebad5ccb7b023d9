/** Small tensors side by side in one native buffer: they come and go in one copy. */
import type { NativeBuffer } from './addon.js';
import type { Device } from './device.js';
import { mismatch } from './errors.js';
import type { Tensor } from './tensor.js';

/** Each part begins at a multiple of so many words, as buffers of their own would: 64 bytes. */
const ALIGN = 16;

/** Tensors by name; their order is the one in which they were named. */
export type NamedTensors = { readonly [name: string]: Tensor | undefined };
type Views<T, V> = { readonly [name in keyof T]: V };

export class PackedTensors<T extends NamedTensors> {
  /** One for each tensor, in their order. */
  readonly buffers: readonly NativeBuffer[];
  /** JavaScript's copy of the memory, as whole numbers and as f32: which of them counts is told by the tensor's dtype. */
  readonly ints: Views<T, Int32Array>;
  readonly floats: Views<T, Float32Array>;
  readonly #device: Device;
  readonly #whole: NativeBuffer;
  readonly #words: Int32Array;
  /** What the last write handed over: most hand over as much as the one before. */
  #written: Int32Array;

  /** @param tensors i32 or f32; their shapes count, not their values */
  constructor(device: Device, tensors: T) {
    const named = Object.entries(tensors) as [string, Tensor][];
    let words = 0;
    const places = named.map(([name, tensor]) => {
      if (tensor.dtype !== 'i32' && tensor.dtype !== 'f32')
        throw mismatch('ERR_DTYPE', 'packed tensors', `${name} ${tensor}`, 'i32 or f32');
      const at = words;
      words += Math.ceil(tensor.size / ALIGN) * ALIGN;
      return { name, at, size: tensor.size };
    });
    const memory = new ArrayBuffer(4 * words);
    const { addon } = device;
    this.#device = device;
    this.#words = this.#written = new Int32Array(memory);
    this.#whole = device.allocate(4 * words);
    const buffers: NativeBuffer[] = [];
    this.buffers = buffers;
    try {
      for (const { at, size } of places) buffers.push(addon.partOfBuffer(this.#whole, 4 * at, 4 * size));
    } catch (error) {
      this.dispose();
      throw error;
    }
    const views = <V>(view: (offset: number, size: number) => V): Views<T, V> =>
      Object.fromEntries(places.map(({ name, at, size }) => [name, view(4 * at, size)])) as Views<T, V>;
    this.ints = views((offset, size) => new Int32Array(memory, offset, size));
    this.floats = views((offset, size) => new Float32Array(memory, offset, size));
  }

  /** Hands the memory over, without so many words at its end. */
  write(spare = 0): void {
    const words = this.#words.length - spare;
    if (this.#written.length !== words) this.#written = this.#words.subarray(0, words);
    this.#device.addon.writeBuffer(this.#whole, this.#written);
  }

  /** Gets it back. */
  read(): void {
    this.#device.addon.readBuffer(this.#whole, this.#words);
  }

  dispose(): void {
    for (const buffer of [...this.buffers, this.#whole]) this.#device.addon.disposeBuffer(buffer);
  }
}
