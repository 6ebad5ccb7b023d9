/** Parameters out of a packed file: its weights are mapped, not read. */
import { type PackedFile, readPackedVectors } from '../../checkpoint/packed-read.js';
import type { NativeWeight, PackedSource } from '../../core/addon.js';
import { allOrNone } from '../../core/all-or-none.js';
import type { Device } from '../../core/device.js';
import { SwitchyardError } from '../../core/errors.js';
import { withNativeAbort } from '../../core/native-abort.js';
import { sizeOf } from '../../core/shape.js';
import { type Tensor, tensor } from '../../core/tensor.js';
import { Weight } from '../../core/weight.js';
import type { Part } from '../decoder/parameters.js';
import type { LoadProgress, TensorSource } from '../read/tensor-source.js';

export class MappedParameters implements TensorSource {
  readonly #unused: Set<string>;

  private constructor(
    readonly file: PackedFile,
    readonly device: Device,
    readonly weights: ReadonlyMap<string, Weight>,
    readonly vectors: ReadonlyMap<string, Float32Array>,
    readonly onProgress: ((progress: LoadProgress) => void) | undefined,
  ) {
    this.#unused = new Set([...weights.keys(), ...vectors.keys()]);
  }

  /** @param onHost names of matrices that stay with the host beside a GPU */
  static async open(
    file: PackedFile,
    device: Device,
    onProgress: ((progress: LoadProgress) => void) | undefined,
    signal: AbortSignal | undefined,
    onHost: ReadonlySet<string> = new Set(),
  ): Promise<MappedParameters> {
    const { addon, native: runtime } = device;
    signal?.throwIfAborted();
    const vectors = readPackedVectors(file);
    const matrices = [...file.matrices.values()];
    const packed: PackedSource = {
      path: file.path,
      bytes: file.bytes,
      head: file.head,
      weights: matrices.map(({ name, format, experts, rows, columns, repeated, offset }) => ({
        name,
        format,
        experts: repeated ? 1 : experts,
        rows,
        columns,
        offset,
        onHost: onHost.has(name),
      })),
    };
    return allOrNone(async (keep) => {
      const kept = (native: NativeWeight): NativeWeight => keep(native, addon.disposeWeight);
      const natives = await withNativeAbort(addon, signal, (abort) =>
        addon.openPacked(runtime, packed, abort),
      );
      for (const native of natives) kept(native);
      const weights = matrices.map(({ name, format, experts, rows, columns, repeated, bytes }, i) => {
        let native = natives[i] as NativeWeight;
        if (repeated) {
          const one = native;
          native = kept(addon.repeatWeight(one, experts));
          addon.disposeWeight(one);
        }
        return [name, new Weight(native, format, experts, rows, columns, bytes)] as const;
      });
      signal?.throwIfAborted();
      return new MappedParameters(file, device, new Map(weights), vectors, onProgress);
    });
  }

  get source(): string {
    return this.file.path;
  }

  async matrix({ name, shape }: Part): Promise<Weight> {
    const weight = this.#take(this.weights, name);
    const [columns, rows, experts = 1] = [...shape].reverse();
    if (weight.rows !== rows || weight.columns !== columns || weight.experts !== experts)
      throw this.#mismatch(name, String(weight), `${experts} × [${rows}, ${columns}]`);
    return weight;
  }

  async vector({ name, shape }: Part): Promise<Tensor> {
    const values = this.#take(this.vectors, name);
    const size = sizeOf(shape);
    if (values.length !== size) throw this.#mismatch(name, `${values.length} values`, `${size}`);
    return tensor(values, shape);
  }

  unused(): string[] {
    return [...this.#unused];
  }

  finish(): void {
    const { bytes } = this.file;
    this.onProgress?.({ loaded: bytes, total: bytes, tensor: '' });
  }

  release(): void {
    for (const { native } of this.weights.values()) this.device.addon.disposeWeight(native);
  }

  #take<T>(from: ReadonlyMap<string, T>, name: string): T {
    const found = from.get(name);
    if (found === undefined) throw this.#mismatch(name, 'no such tensor', 'it to be there');
    this.#unused.delete(name);
    return found;
  }

  #mismatch(name: string, got: string, expected: string): SwitchyardError {
    return new SwitchyardError(
      'ERR_FORMAT',
      `[${this.source}: tensor "${name}"] got ${got}, expected ${expected}`,
    );
  }
}
