import { Device, type DeviceOptions } from '../../src/core/device.js';
import type { Lowering } from '../../src/core/program/ir.js';
import type { ProgramTracer } from '../../src/core/trace.js';

/** A device that adds up how long each kernel runs. */
export class ClockedDevice extends Device {
  /** Milliseconds and calls by kernel since the last clear. */
  readonly kernels = new Map<string, { ms: number; calls: number }>();
  override readonly tracer: ProgramTracer;
  readonly #programs = new Map<number, Lowering>();

  constructor(options: DeviceOptions) {
    super(options);
    this.tracer = {
      know: (id, program) => this.#programs.set(id, program),
      collect: () => this.#collect(),
      write: () => undefined,
    };
  }

  get total(): number {
    let sum = 0;
    for (const { ms } of this.kernels.values()) sum += ms;
    return sum;
  }

  #collect(): void {
    for (const { program, instruction, duration } of this.addon.takeTrace(this.native)) {
      const i = this.#programs.get(program)?.instructions[instruction];
      if (!i) continue;
      // Elementwise programs say more with what they were made from.
      const ops = [...new Set(i.nodes.map((n) => n.op.name))].join('+');
      const name = i.kernel === 'elementwise' ? `elementwise ${ops}` : i.kernel;
      const entry = this.kernels.get(name) ?? { ms: 0, calls: 0 };
      entry.ms += duration / 1e3;
      entry.calls++;
      this.kernels.set(name, entry);
    }
  }
}
