import { Device, type DeviceOptions } from '../../src/core/device.js';
import type { Lowering } from '../../src/core/program/ir.js';
import type { Tracer } from '../../src/core/trace.js';

/** A device that adds up how long each kernel runs. */
export class ClockedDevice extends Device {
  /** Milliseconds and calls by kernel since the last reset. */
  readonly kernels = new Map<string, { ms: number; calls: number }>();
  override readonly tracer: Tracer;

  constructor(options: DeviceOptions) {
    super(options);
    // The part of a tracer that programs use.
    const collect = (device: Device, program: Lowering): void => this.#collect(device, program);
    this.tracer = { collect } as unknown as Tracer;
  }

  get total(): number {
    let sum = 0;
    for (const { ms } of this.kernels.values()) sum += ms;
    return sum;
  }

  #collect(device: Device, program: Lowering): void {
    for (const { instruction, duration } of device.addon.takeTrace(device.native)) {
      const i = program.instructions[instruction];
      if (!i) continue;
      // Elementwise programs and linears say more with what they were made from.
      const ops = [...new Set(i.nodes.map((n) => n.op.name))].join('+');
      const name = i.kernel === 'elementwise' ? `elementwise ${ops}` : i.kernel;
      const entry = this.kernels.get(name) ?? { ms: 0, calls: 0 };
      entry.ms += duration / 1e3;
      entry.calls++;
      this.kernels.set(name, entry);
    }
  }
}
