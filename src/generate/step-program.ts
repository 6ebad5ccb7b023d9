/** A compiled step with the memory of its inputs and outputs: it is filled, run and read by one step at a time. */
import type { NativeAbort, NativeBuffer } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { concat, reshape, slice } from '../core/ops/shape.js';
import { type NamedTensors, PackedTensors } from '../core/packed-tensors.js';
import type { BoundProgram } from '../core/program/bound.js';
import { Executable } from '../core/program/compile.js';
import type { Tensor } from '../core/tensor.js';

type Empty = Record<never, Tensor>;

export interface RunOptions {
  abort?: NativeAbort | undefined;
  /** Words at the end of the last input that this run does not read. */
  spare?: number;
}

export class StepProgram<I extends NamedTensors, O extends NamedTensors = Empty> {
  private constructor(
    readonly executable: Executable,
    readonly bound: BoundProgram,
    /** What the inputs get at the next run. */
    readonly inputs: PackedTensors<I>,
    /** What the last run gave. */
    readonly results: PackedTensors<O>,
  ) {}

  /**
   * @param results outputs of few words, which every run brings back
   * @param large outputs that are read from buffers of their own
   */
  static async build<I extends NamedTensors, O extends NamedTensors>(
    device: Device,
    inputs: I,
    results: O,
    large: readonly Tensor[] = [],
  ): Promise<StepProgram<I, O>> {
    const placeholders = Object.values(inputs) as Tensor[];
    const outputs = Object.values(results) as Tensor[];
    const executable = await Executable.buildInTurns(device, placeholders, [...outputs, ...large]);
    const given = new PackedTensors(device, inputs);
    const small = new PackedTensors(device, results);
    const bound = executable.bind(given.buffers, [...small.buffers, ...large.map(() => null)]);
    return new StepProgram(executable, bound, given, small);
  }

  /** One buffer for each large output, to be disposed of by the caller. */
  async run({ abort, spare }: RunOptions = {}): Promise<NativeBuffer[]> {
    this.inputs.write(spare);
    const large = await this.bound.run(abort);
    this.results.read();
    return large;
  }

  dispose(): void {
    this.bound.dispose();
    this.executable.dispose();
    this.inputs.dispose();
    this.results.dispose();
  }
}

/** [caches]: a large output for programs that only write to caches; one element of each keeps the writes alive. */
export const keepAlive = (caches: readonly Tensor[]): Tensor =>
  concat(
    caches.map((cache) => slice(reshape(cache, [cache.size]), 0, 0, 1)),
    0,
  );
