/** A compiled step with the buffers of its inputs: it is filled, run and read by one step at a time. */
import type { NativeAbort, NativeBuffer } from '../core/addon.js';
import type { Device } from '../core/device.js';
import { Executable } from '../core/program/compile.js';
import type { Tensor } from '../core/tensor.js';

export class StepProgram {
  private constructor(
    readonly device: Device,
    readonly executable: Executable,
    /** What the first inputs get at the next run, in their order. */
    readonly arrays: readonly Int32Array[],
    readonly buffers: readonly NativeBuffer[],
  ) {}

  /**
   * @param inputs i32
   * @param others inputs behind them for which there is no array: `fill` is given their values
   */
  static async build(
    device: Device,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    others: readonly Tensor[] = [],
  ): Promise<StepProgram> {
    const all = [...inputs, ...others];
    const executable = await Executable.buildInTurns(device, all, outputs);
    const arrays = inputs.map((t) => new Int32Array(t.size));
    const buffers = all.map((t) => device.addon.createBuffer(t.bytes));
    return new StepProgram(device, executable, arrays, buffers);
  }

  /** Hands the arrays over; `others` may be shorter than their inputs. */
  fill(...others: readonly Int32Array[]): void {
    [...this.arrays, ...others].forEach((array, i) => {
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
