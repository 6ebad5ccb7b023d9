import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { DisposedError, type ErrorCode, SwitchyardError } from './errors.js';

// The native objects are opaque: only the addon's functions take them.
declare const brand: unique symbol;
export interface NativeBuffer {
  readonly [brand]: 'buffer';
}
export interface NativeProgram {
  readonly [brand]: 'program';
}
export interface NativeWeight {
  readonly [brand]: 'weight';
}
/** A thread that runs programs one by one, with its pool of workers and its arena. */
export interface NativeRuntime {
  readonly [brand]: 'runtime';
}
/** A device of a backend, with the pool of its memory. Where a function takes none, the CPU is meant. */
export interface NativeDevice {
  readonly [brand]: 'device';
}
/** A program with the buffers that it runs on. */
export interface NativeRun {
  readonly [brand]: 'run';
}
export interface NativeAbort {
  readonly [brand]: 'abort';
}

export interface DeviceInfo {
  cpu: string;
  cores: number;
  /** Instruction-set tiers this machine has, ascending: 'scalar', 'avx2', 'avx512', … */
  tiers: string[];
  bestTier: string;
  amx: boolean;
  pageSize: number;
}

export interface OpenedDeviceInfo {
  /** 'cuda'. */
  backend: string;
  name: string;
  /** Bytes, of which so many are free. */
  memory: number;
  free: number;
  multiprocessors: number;
  /** 10 · major + minor. */
  capability: number;
  /** Kernels that programs on it leave to the host, in their place of the order. */
  onHost: string[];
}

export interface KernelInfo {
  name: string;
  /** Attributes in order, 'name:type' joined by commas; types are int, float, ints. */
  signature: string;
}

export interface RunOptions {
  /** Threads for this run, at most those of the runtime (the default). */
  threads?: number;
  /** Default: the best tier of the machine. */
  tier?: string;
  /** Aborting rejects the run with ERR_ABORTED before its next instruction. */
  abort?: NativeAbort;
  /** Record an event per instruction, and per phase of it, for takeTrace. */
  trace?: boolean;
}

/** Where the values of a weight are: each part covers consecutive rows of the flattened [experts · rows]. */
export interface WeightSource {
  /** Of the tensor, for messages. */
  name?: string;
  format: string;
  /** Packed format where it differs from the stored one: a float format, or one that values can be quantised to. */
  as?: string;
  experts: number;
  rows: number;
  columns: number;
  parts: readonly WeightPart[];
  /** The weight stays in the host's memory whatever the runtime's device; instructions that read it run there. */
  onHost?: boolean;
}
export interface WeightBytes {
  /** A file, or `data` in memory. */
  path?: string;
  data?: ArrayBufferView;
  /** Bytes from the start of the file or of `data`. */
  offset: number;
  bytes: number;
}
export interface WeightPart extends WeightBytes {
  /** Default: as many as the bytes hold; with `scales` it must be given. */
  rows?: number;
  /**
   * Elements from one row, or column, to the next; float formats and f8_e4m3, rows also with `scales`, and blocks that lie
   * transposed where `as` is another format. Default: row-major.
   */
  rowStride?: number;
  columnStride?: number;
  /**
   * mxfp4 whose scales lie apart, as checkpoints of transformers have it: a byte for every 32 values. The part is then
   * codes, 16 bytes for 32 values, two neighbours in a byte.
   */
  scales?: WeightBytes;
  /** f8_e4m3 only: its scales. Default: 1. */
  grid?: ScaleGrid;
}
/** Scales of a stack of matrices [rows, columns], one for each block of each matrix, in a float format. */
export interface ScaleGrid extends WeightBytes {
  format: string;
  blockRows: number;
  blockColumns: number;
  rows: number;
  columns: number;
  /** Where in the stack the part begins, in values. */
  first: number;
}
export interface WeightInfo {
  format: string;
  experts: number;
  rows: number;
  columns: number;
  /** Bytes of packed memory; shared bytes count once. */
  bytes: number;
  /** All experts are the same bytes. */
  repeated: boolean;
  /** The bytes lie in a file of openPacked. */
  mapped: boolean;
}

/** Weights of a packed file (docs/packed-file.md): their bytes are mapped, or read where the system cannot map. */
export interface PackedSource {
  path: string;
  /** Of the whole file. */
  bytes: number;
  /** What the file must begin with: it is still the one whose header was read. */
  head: Uint8Array;
  weights: readonly PackedRange[];
}
export interface PackedRange {
  /** Of the tensor, for messages. */
  name: string;
  format: string;
  experts: number;
  rows: number;
  columns: number;
  /** A multiple of 64. */
  offset: number;
  /** As that of a WeightSource. */
  onHost?: boolean;
}

/** One instruction of a run with `trace: true`; the phases that its kernel names follow it. */
export interface TraceEvent {
  /** The kernel. */
  name: string;
  /** Of the instruction before; absent for the whole instruction. */
  phase?: string;
  /** `id` of programInfo. */
  program: number;
  /** The number of the instruction in its program. */
  instruction: number;
  /** Microseconds on the clock of process.hrtime. */
  start: number;
  /** Microseconds. */
  duration: number;
}

export type LimitName = 'read' | 'f32' | 'bf16' | 'int8';
export interface LimitOptions {
  threads: number;
  runs: number;
  /** Default: the best tier of the machine. */
  tier?: string;
  /** Memory that 'read' walks; default 1 GiB, beyond every cache. */
  bytes?: number;
  /** Length of one run of the others; default 50. */
  milliseconds?: number;
}

/** Bytes held by this environment. */
export interface MemoryUsage {
  buffers: number;
  weights: number;
  arena: number;
  /** What the garbage collector has been told of it: allocations of 64 KiB or more. */
  reported: number;
}

/** The native half. Every function throws (a promise rejects with) a SwitchyardError. */
export interface Addon {
  readonly version: string;
  deviceInfo(): DeviceInfo;
  /** Loads a backend and opens one of its devices. ERR_UNSUPPORTED with one sentence where that does not work. */
  openDevice(library: string, ordinal: number): NativeDevice;
  openedDevice(device: NativeDevice): OpenedDeviceInfo;
  kernels(): KernelInfo[];
  /** Opcodes of the elementwise kernel, in order. */
  elementwiseOpcodes(): string[];

  /** @param options.threads 1 to 1024; the runtime's own thread is one of them */
  createRuntime(options: { threads: number; device?: NativeDevice | undefined }): NativeRuntime;
  /** Rejects what runs and waits with ERR_ABORTED, ends the threads, frees the arena. Twice is fine. */
  disposeRuntime(runtime: NativeRuntime): void;

  /** Zeros. */
  createBuffer(bytes: number, device?: NativeDevice): NativeBuffer;
  /** Bytes of another buffer, from a multiple of 64 on: the same memory, which it keeps alive. */
  partOfBuffer(buffer: NativeBuffer, byteOffset: number, bytes: number): NativeBuffer;
  /** A copy of the view's bytes. */
  bufferFrom(data: ArrayBufferView, device?: NativeDevice): NativeBuffer;
  /** Fills the whole of `target` from the buffer's bytes at `byteOffset` (default 0). */
  readBuffer(buffer: NativeBuffer, target: ArrayBufferView, byteOffset?: number): void;
  /** Copies the whole of `source` to the buffer's bytes at `byteOffset` (default 0). */
  writeBuffer(buffer: NativeBuffer, source: ArrayBufferView, byteOffset?: number): void;
  bufferBytes(buffer: NativeBuffer): number;
  /** Gives the memory back once no run and no program holds it. Twice is fine; any other use is ERR_DISPOSED. */
  disposeBuffer(buffer: NativeBuffer): void;

  /** Checks the whole program (docs/program-format.md) and keeps its constants and weights alive. */
  createProgram(
    binary: Uint8Array,
    constants: NativeBuffer[],
    weights: NativeWeight[],
    device?: NativeDevice,
  ): NativeProgram;
  programInfo(program: NativeProgram): { id: number; instructions: number; arenaBytes: number };
  disposeProgram(program: NativeProgram): void;
  /** Runs of one runtime follow each other in the order of the calls. Resolves to the program's outputs. */
  run(
    runtime: NativeRuntime,
    program: NativeProgram,
    inputs: NativeBuffer[],
    ints: number[],
    options?: RunOptions,
  ): Promise<NativeBuffer[]>;
  /**
   * A program without run-time integers, with the buffers of all its runs, checked once. An output that is null is allocated
   * by each run; the others are overwritten by it.
   */
  bindRun(
    runtime: NativeRuntime,
    program: NativeProgram,
    inputs: readonly NativeBuffer[],
    outputs: readonly (NativeBuffer | null)[],
    options?: Omit<RunOptions, 'abort'>,
  ): NativeRun;
  /** `run`, of what is bound. Resolves to the outputs that each run allocates. */
  start(run: NativeRun, abort?: NativeAbort): Promise<NativeBuffer[]>;
  /**
   * The same at once, on the calling thread alone. null, and nothing is run: the program's last two runs took more than 50 µs
   * each, or there was none; or the runtime has something else to do.
   */
  runHere(run: NativeRun, abort?: NativeAbort): NativeBuffer[] | null;
  /** Lets go of the program and the buffers. Twice is fine. */
  disposeRun(run: NativeRun): void;
  /** Reads and packs a weight on the runtime's pool, off the event loop; it lies where the runtime's programs run. */
  packWeight(runtime: NativeRuntime, source: WeightSource, abort?: NativeAbort): Promise<NativeWeight>;
  /** In the order of `source.weights`. Runs on them are ERR_IO once the file was cut. */
  openPacked(runtime: NativeRuntime, source: PackedSource, abort?: NativeAbort): Promise<NativeWeight[]>;
  /** Version of the layout of packed weights. */
  readonly packVersion: number;
  /** Bytes of a packed weight of such sizes. */
  packedBytes(format: string, experts: number, rows: number, columns: number): number;
  /** Copies packed bytes from `offset` on, as many as `target` holds. */
  copyWeight(weight: NativeWeight, offset: number, target: Uint8Array): void;
  /** The experts of the list, in its order, as format `as`: through f32 where that is another one. */
  convertWeight(
    runtime: NativeRuntime,
    weight: NativeWeight,
    as: string,
    experts: readonly number[],
    abort?: NativeAbort,
  ): Promise<NativeWeight>;
  /** Puts an expert of a weight on the host in the place of one of a weight on a device, after the runs that have begun. */
  copyExpert(from: NativeWeight, expert: number, to: NativeWeight, slot: number): void;
  /** How far a weight lies from a reference of the same sizes: Σ (weight - reference)² and Σ reference². */
  weightError(
    runtime: NativeRuntime,
    weight: NativeWeight,
    reference: NativeWeight,
    abort?: NativeAbort,
  ): Promise<{ difference: number; reference: number }>;
  /** The same packed bytes for `experts` experts, without a copy. */
  repeatWeight(weight: NativeWeight, experts: number): NativeWeight;
  /** Decoded values of `rows` rows from `row` on, of one expert. */
  readWeight(weight: NativeWeight, expert: number, row: number, rows: number): Float32Array;
  /** The same rows as files store them: the bytes that were packed. ERR_UNSUPPORTED for formats that exist packed only. */
  storeWeight(weight: NativeWeight, expert: number, row: number, rows: number): Uint8Array;
  weightInfo(weight: NativeWeight): WeightInfo;
  disposeWeight(weight: NativeWeight): void;
  createAbort(): NativeAbort;
  abort(abort: NativeAbort): void;

  /**
   * Measures what the machine can do at most: 'read' in bytes per second, the others in operations per second (a
   * multiply-add counts two). One number a run. ERR_UNSUPPORTED where the tier has no instruction for it.
   */
  measureLimit(runtime: NativeRuntime, what: LimitName, options: LimitOptions): Promise<number[]>;
  /** The events of the runs with `trace: true` since the last call, about a million at most. */
  takeTrace(runtime: NativeRuntime): TraceEvent[];
  memoryUsage(): MemoryUsage;
  setErrorFactory(factory: (code: ErrorCode, message: string, hint?: string) => Error): void;
}

const root = fileURLToPath(new URL('../..', import.meta.url));
let loaded: Addon | undefined;

/** The addon, loaded at first use. Throws ERR_NATIVE with the command that builds it where there is none. */
export function addon(): Addon {
  loaded ??= load();
  return loaded;
}

/** The file of the addon; throws where there is none. */
export function addonPath(): string {
  const require = createRequire(import.meta.url);
  const find = require('node-gyp-build') as { path(folder: string): string };
  return find.path(root);
}

function load(): Addon {
  let native: Addon;
  try {
    native = createRequire(import.meta.url)(addonPath()) as Addon;
  } catch (cause) {
    const system = `${process.platform}-${process.arch}, Node ${process.versions.node}`;
    throw new SwitchyardError('ERR_NATIVE', `[addon] got no native addon for ${system}, expected one`, {
      cause,
      hint: `build it with 'npm run build:native' in ${root} (needs a C++20 compiler)`,
    });
  }
  native.setErrorFactory((code, message, hint) => {
    const disposed = code === 'ERR_DISPOSED' && /^\[([^\]]+)\]/.exec(message);
    return disposed ? new DisposedError(disposed[1]) : new SwitchyardError(code, message, { hint });
  });
  return native;
}
