import { Device, type DeviceOptions } from '../../src/core/device.js';
import type { Instruction, Lowering } from '../../src/core/program/ir.js';
import type { ProgramTracer } from '../../src/core/trace.js';

export interface Timing {
  ms: number;
  calls: number;
  /** Milliseconds of the phases that the kernel names, which are parts of `ms`. */
  readonly phases: Map<string, number>;
}

/** Events that native code keeps until they are taken; it drops what comes later (`native/runtime/executor.cc`). */
const MOST_EVENTS = 1_000_000;

/**
 * A device that adds up how long each instruction runs. The events are taken when somebody asks for the sums, not between the
 * runs, where taking them (half a millisecond for a small model) would count as time that the runs have to wait.
 */
export class ClockedDevice extends Device {
  override readonly tracer: ProgramTracer;
  readonly #instructions = new Map<Instruction, Timing>();
  readonly #programs = new Map<number, Lowering>();

  constructor(options: DeviceOptions) {
    super(options);
    this.tracer = {
      know: (id, program) => this.#programs.set(id, program),
      collect: () => undefined,
      write: () => undefined,
    };
  }

  /** By instruction, since the last clear. */
  get instructions(): ReadonlyMap<Instruction, Timing> {
    this.#collect();
    return this.#instructions;
  }

  /** Milliseconds and calls by kernel since the last clear. */
  get kernels(): Map<string, { ms: number; calls: number }> {
    const kernels = new Map<string, { ms: number; calls: number }>();
    for (const [i, { ms, calls }] of this.instructions) {
      // Elementwise programs say more with what they were made from.
      const ops = [...new Set(i.nodes.map((n) => n.op.name))].join('+');
      const name = i.kernel === 'elementwise' ? `elementwise ${ops}` : i.kernel;
      const entry = kernels.get(name) ?? { ms: 0, calls: 0 };
      kernels.set(name, { ms: entry.ms + ms, calls: entry.calls + calls });
    }
    return kernels;
  }

  get total(): number {
    let sum = 0;
    for (const { ms } of this.instructions.values()) sum += ms;
    return sum;
  }

  clear(): void {
    this.addon.takeTrace(this.native);
    this.#instructions.clear();
  }

  #collect(): void {
    const events = this.addon.takeTrace(this.native);
    if (events.length >= MOST_EVENTS)
      throw new Error(
        `[kernel clock] got ${events.length} events at once, expected sums to be asked for sooner`,
      );
    for (const { program, instruction, phase, duration } of events) {
      const i = this.#programs.get(program)?.instructions[instruction];
      if (!i) continue;
      const timing = this.#instructions.get(i) ?? { ms: 0, calls: 0, phases: new Map<string, number>() };
      this.#instructions.set(i, timing);
      if (phase !== undefined) {
        timing.phases.set(phase, (timing.phases.get(phase) ?? 0) + duration / 1e3);
      } else {
        timing.ms += duration / 1e3;
        timing.calls++;
      }
    }
  }
}
