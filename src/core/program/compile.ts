/** From functions of tensors to programs that run again and again. */
import { setImmediate as turn } from 'node:timers/promises';
import type {
  NativeAbort,
  NativeBuffer,
  NativeProgram,
  NativeRun,
  RunOptions as NativeRunOptions,
} from '../addon.js';
import { type Device, defaultDevice } from '../device.js';
import { SwitchyardError } from '../errors.js';
import type { RuntimeInt } from '../op.js';
import { shapeText } from '../shape.js';
import { connectRuntime, Tensor } from '../tensor.js';
import { treeForm, treeLeaves, treeMap } from '../tree.js';
import { describeProgram } from './describe.js';
import { encode } from './encode.js';
import type { Lowering } from './ir.js';
import { lower, lowerInParts } from './lower.js';
import { planMemory } from './plan.js';
import { expandTwins } from './twins.js';
import { compareWithTwin } from './validate.js';

export interface RunOptions {
  /** Values of run-time integers by name. */
  ints?: Readonly<Record<string, number>>;
  abort?: NativeAbort;
}

export interface BuildOptions {
  /** Join elementwise chains and linears of one input. Default: unless SWITCHYARD_NO_FUSE is set. */
  fuse?: boolean;
}

/** A compiled program on a device. */
export class Executable {
  readonly #ints: readonly string[];

  private constructor(
    readonly device: Device,
    readonly lowering: Lowering,
    readonly native: NativeProgram,
    ints: readonly RuntimeInt[],
    /** @internal What SWITCHYARD_VALIDATE compares with. */
    readonly twin: Executable | null,
  ) {
    this.#ints = ints.map((i) => i.name);
  }

  /** Builds the program that computes `outputs` from placeholders `inputs`. All other leaves become constants. */
  static build(
    device: Device,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    options: BuildOptions = {},
  ): Executable {
    const parts = Executable.#parts(device, inputs, outputs, options);
    let part = parts.next();
    while (!part.done) part = parts.next();
    return part.value;
  }

  /** The same, giving the event loop a turn between its parts: building takes milliseconds for a large graph. */
  static async buildInTurns(
    device: Device,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    options: BuildOptions = {},
  ): Promise<Executable> {
    const parts = Executable.#parts(device, inputs, outputs, options);
    let part = parts.next();
    while (!part.done) {
      await turn();
      part = parts.next();
    }
    return part.value;
  }

  static *#parts(
    device: Device,
    inputs: readonly Tensor[],
    outputs: readonly Tensor[],
    { fuse = !device.env.noFuse }: BuildOptions,
  ): Generator<void, Executable> {
    const wanted = fuse ? outputs : expandTwins(outputs);
    const lowering = yield* lowerInParts({ inputs, outputs: wanted, opcodes: device.opcodes, fuse });
    yield;
    lowering.arenaBytes = planMemory(lowering.instructions);
    yield;
    const { bytes, ints } = encode(lowering);
    yield;
    const native = device.program(
      bytes,
      lowering.constants.map((t) => device.buffer(t)),
      lowering.weights.map((w) => w.native),
    );
    device.tracer?.know(device.addon.programInfo(native).id, lowering);
    if (device.env.debug >= 4) {
      const before = lower({ inputs, outputs, opcodes: device.opcodes, fuse: false });
      before.arenaBytes = planMemory(before.instructions);
      process.stderr.write(
        `before fusion, ${describeProgram(before)}\nafter, ${describeProgram(lowering)}\n`,
      );
    }
    const twin =
      device.env.validate && fuse
        ? Executable.build(device.withTier('scalar'), inputs, outputs, { fuse: false })
        : null;
    return new Executable(device, lowering, native, ints, twin);
  }

  /** Frees the native program now instead of at garbage collection. */
  dispose(): void {
    this.device.addon.disposeProgram(this.native);
    this.twin?.dispose();
  }

  /** Runs off the event loop; resolves to one buffer per output. */
  async run(inputs: readonly NativeBuffer[], { ints = {}, abort }: RunOptions = {}): Promise<NativeBuffer[]> {
    const { device } = this;
    const slots = this.#ints.map((name) => {
      const value = ints[name];
      if (value === undefined || !Number.isSafeInteger(value)) {
        throw new SwitchyardError(
          'ERR_OPTION',
          `[run] got ${value} for run-time integer '${name}', expected a whole number`,
        );
      }
      return value;
    });
    const outputs = await device.addon.run(device.native, this.native, inputs as NativeBuffer[], slots, {
      ...this.#settings,
      ...(abort ? { abort } : {}),
    });
    if (this.watched) await this.watch(inputs, outputs, ints);
    return outputs;
  }

  /**
   * @internal For runs that follow each other on the same buffers (bound.ts). No run-time integers.
   * @param outputs null: allocated by each run
   */
  bind(inputs: readonly NativeBuffer[], outputs: readonly (NativeBuffer | null)[]): NativeRun {
    const { addon, native } = this.device;
    return addon.bindRun(native, this.native, inputs, outputs, this.#settings);
  }

  get #settings(): Omit<NativeRunOptions, 'abort'> {
    const { threads, isa, tracer } = this.device;
    return { threads, tier: isa, trace: tracer !== null };
  }

  /** @internal Whether `watch` is to be told of every run. */
  get watched(): boolean {
    return this.device.tracer !== null || this.twin !== null;
  }

  /** @internal Hands the timings of a run to the tracer, and compares its outputs with those of the twin. */
  async watch(
    inputs: readonly NativeBuffer[],
    outputs: readonly NativeBuffer[],
    ints: Ints = {},
  ): Promise<void> {
    const { device, twin } = this;
    device.tracer?.collect(device);
    if (twin) compareWithTwin(device, this.lowering.outputs, outputs, await twin.run(inputs, { ints }));
  }
}

/** Computes tensors that are nodes and gives them their values. */
export async function evaluate(tensors: readonly Tensor[], device: Device): Promise<void> {
  const open = [...new Set(tensors.filter((t) => t.source.kind === 'node'))];
  if (open.length === 0) return;
  const executable = Executable.build(device, [], open);
  try {
    const buffers = await executable.run([]);
    for (const [i, t] of open.entries()) t.resolve(buffers[i] as NativeBuffer);
  } finally {
    executable.dispose();
  }
}

connectRuntime(
  (tensors) => evaluate(tensors, defaultDevice()),
  (t) => defaultDevice().read(t),
);

/** Whole numbers that differ from call to call without a new program. */
export type Ints = Readonly<Record<string, number>>;

export interface CompileOptions {
  device?: Device;
}

export type Compiled<A extends readonly unknown[], R> = ((...args: A) => Promise<R>) & {
  /** Runs with values for the run-time integers, by name. */
  withInts(ints: Ints, ...args: A): Promise<R>;
  /** Programs built so far: one for each combination of shapes and dtypes. */
  readonly programs: number;
  /** Frees all programs; a later call builds anew. */
  dispose(): void;
};

/** `compile` (src/core/compile.ts) with the default device given by the caller. */
export function compileOn<A extends readonly unknown[], R>(
  defaultDevice: () => Device,
  fn: (...args: A) => R,
  { device }: CompileOptions = {},
): Compiled<A, R> {
  const cache = new Map<string, { program: Executable; result: R }>();

  const call = async (values: Ints, args: A): Promise<R> => {
    const on = device ?? defaultDevice();
    const leaves = treeLeaves(args);
    const key = `${treeForm(args)} ${leaves.map((t) => `${t.dtype}${shapeText(t.shape)}`).join(' ')}`;
    let entry = cache.get(key);
    if (!entry) {
      const placeholders: Tensor[] = [];
      const open = treeMap(args, (t) => {
        const p = Tensor.placeholder(t.dtype, t.shape);
        placeholders.push(p);
        return p;
      });
      const result = fn(...open);
      entry = { program: Executable.build(on, placeholders, treeLeaves(result)), result };
      cache.set(key, entry);
    }
    await evaluate(leaves, on);
    const buffers = await entry.program.run(
      leaves.map((t) => on.buffer(t)),
      { ints: values },
    );
    let i = 0;
    return treeMap(entry.result, (t) => Tensor.ofBuffer(buffers[i++] as NativeBuffer, t.dtype, t.shape));
  };
  const compiled = (...args: A): Promise<R> => call({}, args);
  const dispose = (): void => {
    for (const { program } of cache.values()) program.dispose();
    cache.clear();
  };
  const withInts = (values: Ints, ...args: A): Promise<R> => call(values, args);
  return Object.defineProperty(Object.assign(compiled, { withInts, dispose }), 'programs', {
    get: () => cache.size,
  }) as Compiled<A, R>;
}
