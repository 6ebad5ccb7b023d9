/** Programs that run again and again on the same memory. */
import type { NativeAbort, NativeBuffer, NativeRun } from '../addon.js';
import { allOrNone } from '../all-or-none.js';
import type { Device } from '../device.js';
import { eventLoop } from '../event-loop.js';
import { type NamedTensors, PackedTensors } from '../packed-tensors.js';
import type { Tensor } from '../tensor.js';
import { Executable } from './compile.js';

export interface BoundRunOptions {
  abort?: NativeAbort | undefined;
  /** Words at the end of the inputs that this run does not read. Default 0. */
  spare?: number;
}

/**
 * A program with the memory of its inputs and outputs, which is checked and handed over once: a run is one call. It is filled,
 * run and read by one caller at a time. A run of microseconds takes place on the JavaScript thread, since the way to the
 * runtime thread and back takes longer; the event loop has its turn in time.
 */
export class BoundProgram<I extends NamedTensors, O extends NamedTensors = Record<never, Tensor>> {
  /** The last run took place here, and so will the next, as far as is known. */
  #here = false;

  private constructor(
    readonly executable: Executable,
    readonly native: NativeRun,
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
  ): Promise<BoundProgram<I, O>> {
    const placeholders = Object.values(inputs) as Tensor[];
    const outputs = Object.values(results) as Tensor[];
    return allOrNone(async (keep) => {
      const executable = keep(
        await Executable.buildInTurns(device, placeholders, [...outputs, ...large]),
        (made) => made.dispose(),
      );
      const given = keep(new PackedTensors(device, inputs), (made) => made.dispose());
      const small = keep(new PackedTensors(device, results), (made) => made.dispose());
      const native = executable.bind(given.buffers, [...small.buffers, ...large.map(() => null)]);
      return new BoundProgram(executable, native, given, small);
    });
  }

  /** One buffer for each large output, to be disposed of by the caller. */
  async run({ abort, spare }: BoundRunOptions = {}): Promise<NativeBuffer[]> {
    const { executable, native, inputs, results } = this;
    const { addon } = executable.device;
    const { held } = eventLoop;
    if (held && this.#here) await eventLoop.turn();
    inputs.write(spare);
    const here = held && !this.#here ? null : addon.runHere(native, abort);
    this.#here = here !== null;
    const large = here ?? (await addon.start(native, abort));
    try {
      if (executable.watched) await executable.watch(inputs.buffers, [...results.buffers, ...large]);
      results.read();
      return large;
    } catch (error) {
      for (const buffer of large) addon.disposeBuffer(buffer);
      throw error;
    }
  }

  dispose(): void {
    const { executable, native, inputs, results } = this;
    executable.device.addon.disposeRun(native);
    executable.dispose();
    inputs.dispose();
    results.dispose();
  }
}
