/** A compiled step with the buffers of its inputs: it is filled, run and read by one step at a time. */
import type { NativeAbort, NativeBuffer } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { Executable } from '../core/program/compile.js';
import type { Tensor } from '../core/tensor.js';

export type StepArray = Int32Array | Float32Array | Uint32Array;

export class StepProgram {
  private constructor(
    readonly device: Device,
    readonly executable: Executable,
    /** What the inputs get at the next run, in their order. */
    readonly arrays: readonly StepArray[],
    readonly buffers: readonly NativeBuffer[],
  ) {}

  static async build(
    device: Device,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
  ): Promise<StepProgram> {
    const executable = await Executable.buildInTurns(device, inputs, outputs);
    const arrays = inputs.map((t) =>
      t.dtype === 'f32'
        ? new Float32Array(t.size)
        : t.dtype === 'u32'
          ? new Uint32Array(t.size)
          : new Int32Array(t.size),
    );
    const buffers = inputs.map((t) => device.addon.createBuffer(t.bytes));
    return new StepProgram(device, executable, arrays, buffers);
  }

  /** Hands the arrays over. */
  fill(): void {
    this.arrays.forEach((array, i) => {
      if (array.length > 0) this.device.addon.writeBuffer(this.buffers[i] as NativeBuffer, array);
    });
  }

  /** One buffer per output, to be disposed of by the caller. */
  run(abort?: NativeAbort): Promise<NativeBuffer[]> {
    return this.executable.run(this.buffers, abort ? { abort } : {});
  }

  dispose(): void {
    this.executable.dispose();
    for (const b of this.buffers) this.device.addon.disposeBuffer(b);
  }
}
