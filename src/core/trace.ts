/** Timings of kernels: a Perfetto trace (SWITCHYARD_TRACE) and a line per kernel (SWITCHYARD_DEBUG=2). */
import { writeFileSync } from 'node:fs';
import type { Addon, NativeRuntime } from './addon.js';
import { instructionCost } from './program/describe.js';
import type { Instruction, Lowering } from './program/ir.js';
import { shapeText } from './shape.js';

interface Event {
  name: string;
  ph: 'X';
  ts: number;
  dur: number;
  pid: number;
  tid: number;
  args: Record<string, string | number>;
}

const shapesOf = (i: Instruction): string => i.inputs.map((v) => (v ? shapeText(v.shape) : '–')).join(' ');

/** Where timings come from: a device. */
export interface TraceSource {
  readonly addon: Addon;
  readonly native: NativeRuntime;
}

/** Who is told of programs and of the ends of their runs. */
export interface ProgramTracer {
  /** Makes a program known by the number that its events carry. */
  know(id: number, program: Lowering): void;
  /** Takes the timings of the runs that ended since the last call, whichever program they ran. */
  collect(source: TraceSource): void;
  /** Hands over what it has gathered, at the latest at exit. */
  write(): void;
}

export class Tracer implements ProgramTracer {
  readonly #events: Event[] = [];
  readonly #programs = new Map<number, Lowering>();
  static #instance: Tracer | null = null;

  private constructor(
    readonly file: string | undefined,
    readonly print: boolean,
  ) {
    if (file !== undefined) process.once('exit', () => this.write());
  }

  /** One tracer per process: one trace file. */
  static shared(file: string | undefined, print: boolean): Tracer {
    Tracer.#instance ??= new Tracer(file, print);
    return Tracer.#instance;
  }

  know(id: number, program: Lowering): void {
    this.#programs.set(id, program);
  }

  collect({ addon, native }: TraceSource): void {
    for (const { program, instruction, phase, start, duration } of addon.takeTrace(native)) {
      const i = this.#programs.get(program)?.instructions[instruction];
      if (!i) continue;
      if (phase !== undefined) {
        if (this.print) {
          process.stderr.write(`  ${phase.padEnd(16)} ${(duration / 1e3).toFixed(3).padStart(9)} ms\n`);
        }
        this.#add(phase, start, duration, { kernel: i.kernel });
        continue;
      }
      const { flops, bytes } = instructionCost(i);
      const ops = i.nodes.map((n) => n.op.name).join('+');
      const us = Math.max(duration, 1e-3); // the clock counts nanoseconds
      const rates = { 'GFLOP/s': flops / us / 1e3, 'GB/s': bytes / us / 1e3 };
      if (this.print) {
        process.stderr.write(
          `${i.kernel.padEnd(18)} ${(duration / 1e3).toFixed(3).padStart(9)} ms ${rates['GFLOP/s'].toFixed(1).padStart(8)} GFLOP/s ${rates['GB/s'].toFixed(1).padStart(7)} GB/s  ${shapesOf(i)}\n`,
        );
      }
      this.#add(i.kernel, start, duration, { ops, shapes: shapesOf(i), flops, bytes, ...rates });
    }
  }

  /** Events that lie within another one are drawn below it. */
  #add(name: string, ts: number, dur: number, args: Event['args']): void {
    if (this.file !== undefined) this.#events.push({ name, ph: 'X', ts, dur, pid: 0, tid: 0, args });
  }

  write(): void {
    if (this.file !== undefined)
      writeFileSync(this.file, JSON.stringify({ traceEvents: this.#events, displayTimeUnit: 'ms' }));
  }
}
