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
 * A run that was handed over: one buffer for each large output, to be disposed of by the caller, where it took place on the
 * JavaScript thread and has ended; else a promise of them. `results` are those of this run until the next one.
 */
export type StartedRun = { readonly end: NativeBuffer[] | Promise<NativeBuffer[]> };

/** What a run leaves in native memory for the next one, whichever program that is: two buffers that take turns. */
export interface Carried {
  /** A placeholder of so many words as a buffer has, and the buffers. */
  readonly before: Tensor;
  readonly buffers: readonly [NativeBuffer, NativeBuffer];
  /** What is left: at most as many words; null: nothing. */
  readonly left: Tensor | null;
}

interface Bindings {
  /** Whether the executable goes with it. */
  readonly owns: boolean;
  /** Number of large outputs. */
  readonly large: number;
  readonly carried?: { readonly before: NativeBuffer; readonly left: NativeBuffer | null };
}

interface Bound {
  readonly owns: boolean;
  /** All buffers that a run reads, and those that it writes but for the large ones. */
  readonly read: readonly NativeBuffer[];
  readonly written: readonly NativeBuffer[];
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
    readonly bound: Bound,
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
      const executable = await Executable.buildInTurns(device, placeholders, [...outputs, ...large]);
      keep(executable, (made) => made.dispose());
      return BoundProgram.#bind(executable, inputs, results, { owns: true, large: large.length });
    });
  }

  /**
   * One program twice, each with memory of its own, so that one may be filled while the other runs. The first reads the second of
   * the carried buffers and leaves its value in the first one, the second the other way round.
   */
  static async pair<I extends NamedTensors, O extends NamedTensors>(
    device: Device,
    inputs: I,
    results: O,
    large: readonly Tensor[],
    { before, left, buffers }: Carried,
  ): Promise<readonly [BoundProgram<I, O>, BoundProgram<I, O>]> {
    const placeholders = [...(Object.values(inputs) as Tensor[]), before];
    const outputs = [...(Object.values(results) as Tensor[]), ...(left ? [left] : []), ...large];
    return allOrNone(async (keep) => {
      const executable = await Executable.buildInTurns(device, placeholders, outputs);
      keep(executable, (made) => made.dispose());
      const bound = (from: NativeBuffer, to: NativeBuffer): BoundProgram<I, O> => {
        const part = left && device.addon.partOfBuffer(to, 0, 4 * left.size);
        if (part) keep(part, (made) => device.addon.disposeBuffer(made));
        const carried = { before: from, left: part };
        const bindings = { owns: to === buffers[0], large: large.length, carried };
        return BoundProgram.#bind(executable, inputs, results, bindings);
      };
      const first = keep(bound(buffers[1], buffers[0]), (made) => made.#free());
      return [first, bound(buffers[0], buffers[1])];
    });
  }

  static #bind<I extends NamedTensors, O extends NamedTensors>(
    executable: Executable,
    inputs: I,
    results: O,
    { owns, large, carried }: Bindings,
  ): BoundProgram<I, O> {
    const given = new PackedTensors(executable.device, inputs);
    let small: PackedTensors<O> | null = null;
    try {
      small = new PackedTensors(executable.device, results);
      const read = [...given.buffers, ...(carried ? [carried.before] : [])];
      const written = [...small.buffers, ...(carried?.left ? [carried.left] : [])];
      const native = executable.bind(read, [...written, ...new Array<null>(large).fill(null)]);
      return new BoundProgram(executable, native, given, small, { owns, read, written });
    } catch (error) {
      given.dispose();
      small?.dispose();
      throw error;
    }
  }

  /** One buffer for each large output, to be disposed of by the caller. */
  async run(options: BoundRunOptions = {}): Promise<NativeBuffer[]> {
    return (await this.start(options)).end;
  }

  /** Hands a run over: it begins when those before it have ended. */
  async start({ abort, spare }: BoundRunOptions = {}): Promise<StartedRun> {
    const { native, inputs } = this;
    const { addon } = this.executable.device;
    const { held } = eventLoop;
    if (held && this.#here) await eventLoop.turn();
    inputs.write(spare);
    const large = held && !this.#here ? null : addon.runHere(native, abort);
    this.#here = large !== null;
    if (large && !this.executable.watched) return { end: this.#read(large) };
    const end = this.#end(large ?? addon.start(native, abort));
    end.catch(() => undefined); // whoever waits for it may do so later
    return { end };
  }

  async #end(run: NativeBuffer[] | Promise<NativeBuffer[]>): Promise<NativeBuffer[]> {
    const { executable, bound } = this;
    const large = await run;
    try {
      if (executable.watched) await executable.watch(bound.read, [...bound.written, ...large]);
    } catch (error) {
      this.#drop(large);
      throw error;
    }
    return this.#read(large);
  }

  #read(large: NativeBuffer[]): NativeBuffer[] {
    try {
      this.results.read();
      return large;
    } catch (error) {
      this.#drop(large);
      throw error;
    }
  }

  #drop(large: readonly NativeBuffer[]): void {
    for (const buffer of large) this.executable.device.addon.disposeBuffer(buffer);
  }

  dispose(): void {
    this.#free();
    if (this.bound.owns) this.executable.dispose();
  }

  #free(): void {
    const { executable, native, inputs, results, bound } = this;
    const { addon } = executable.device;
    addon.disposeRun(native);
    for (const buffer of bound.written.slice(results.buffers.length)) addon.disposeBuffer(buffer);
    inputs.dispose();
    results.dispose();
  }
}
