/** Devices: where programs run, with how many threads and which instruction set. */
import { availableParallelism } from 'node:os';
import {
  type Addon,
  cudaLibrary,
  addon as loadAddon,
  type NativeBuffer,
  type NativeRuntime,
  type NativeWeight,
} from './addon.js';
import { arrayOf, type TypedArray } from './dtype.js';
import { type Env, readEnv, TIERS, type Tier } from './env.js';
import { checkOptions, SwitchyardError, unknownOption } from './errors.js';
import { evaluate } from './program/compile.js';
import { connectRuntime, type Tensor } from './tensor.js';
import { type ProgramTracer, Tracer } from './trace.js';

export const DEVICE_KINDS = ['auto', 'cpu', 'cuda'] as const;

export interface DeviceOptions {
  /** 'auto': the first CUDA device if one works, else the CPU. Default: SWITCHYARD_DEVICE, else 'cpu'. */
  kind?: (typeof DEVICE_KINDS)[number];
  /** Which CUDA device. Default 0. */
  index?: number;
  /** Threads that kernels use. Default: SWITCHYARD_THREADS, else the cores this process may use. */
  threads?: number;
  /** Instruction-set tier. Default: SWITCHYARD_ISA, else the best present. */
  isa?: Tier;
}

/**
 * Where programs run: a CPU with a number of threads and a tier, or a CUDA device. Cheap to make: devices of one process
 * share the native runtimes.
 */
export class Device {
  readonly kind: 'cpu' | 'cuda';
  readonly env: Env;
  readonly threads: number;
  readonly isa: Tier;
  readonly tracer: ProgramTracer | null;
  /** @internal */
  readonly addon: Addon;
  /** @internal */
  readonly native: NativeRuntime;
  /** @internal Opcodes of the elementwise kernel by name. */
  readonly opcodes: ReadonlyMap<string, number>;
  readonly #uploads = new WeakMap<TypedArray, NativeBuffer>();

  constructor(options: DeviceOptions = {}) {
    checkOptions('device', options, ['kind', 'index', 'threads', 'isa']);
    this.env = readEnv();
    this.addon = loadAddon();
    const info = this.addon.deviceInfo();
    this.threads = options.threads ?? this.env.threads;
    if (!Number.isInteger(this.threads) || this.threads < 1 || this.threads > 1024) {
      throw new SwitchyardError(
        'ERR_OPTION',
        `[device] got threads ${this.threads}, expected a whole number from 1 to 1024`,
      );
    }
    this.isa = options.isa ?? this.env.isa ?? (info.bestTier as Tier);
    if (!info.tiers.includes(this.isa)) {
      throw new SwitchyardError(
        'ERR_DEVICE',
        `[device] got instruction set ${this.isa}, expected one this machine has: ${info.tiers.join(', ')}`,
        {
          hint: (TIERS as readonly string[]).includes(this.isa)
            ? 'unset SWITCHYARD_ISA to use the best'
            : `tiers are ${TIERS.join(', ')}`,
        },
      );
    }
    const wanted = options.kind ?? this.env.device ?? 'cpu';
    if (!DEVICE_KINDS.includes(wanted)) throw unknownOption('device', String(wanted), DEVICE_KINDS);
    const cuda = wanted === 'cpu' ? null : openCuda(this.addon, options.index ?? 0, wanted === 'auto');
    this.kind = cuda ? 'cuda' : 'cpu';
    this.native = cuda ?? sharedRuntime(this.addon, this.threads);
    this.opcodes = sharedOpcodes(this.addon);
    const traced = this.env.trace !== undefined || this.env.debug >= 2;
    this.tracer = traced ? Tracer.shared(this.env.trace, this.env.debug >= 2) : null;
  }

  /** The native buffer of a tensor's values; host data is uploaded once. */
  buffer(t: Tensor): NativeBuffer {
    const { source } = t;
    if (source.kind === 'buffer') return source.buffer;
    if (source.kind !== 'host') {
      throw new SwitchyardError(
        'ERR_OPTION',
        `[device] got ${t} without values, expected an evaluated tensor`,
      );
    }
    let buffer = this.#uploads.get(source.data);
    if (!buffer) {
      buffer = this.addon.bufferFrom(source.data);
      this.#uploads.set(source.data, buffer);
    }
    return buffer;
  }

  read(t: Tensor): TypedArray {
    const out = arrayOf(t.dtype, t.size);
    if (out.length > 0) this.addon.readBuffer(this.buffer(t), out, 0);
    return out;
  }

  /** Frees native memory of a weight now instead of at garbage collection. */
  disposeWeight(w: NativeWeight): void {
    this.addon.disposeWeight(w);
  }

  /** The CPU of this device on some instruction-set tier. */
  withTier(isa: Tier): Device {
    return isa === this.isa && this.kind === 'cpu'
      ? this
      : new Device({ kind: 'cpu', threads: this.threads, isa });
  }

  toString(): string {
    const info = this.addon.runtimeInfo(this.native);
    return info ? `cuda (${info.name})` : `cpu (${this.isa}, ${this.threads} threads)`;
  }
}

// One executor thread and pool serve all devices of an environment; only more threads than it has need another.
let runtime: { native: NativeRuntime; threads: number } | null = null;
function sharedRuntime(addon: Addon, threads: number): NativeRuntime {
  if (!runtime || runtime.threads < threads) {
    const size = Math.max(threads, availableParallelism());
    runtime = { native: addon.createRuntime({ threads: size }), threads: size };
  }
  return runtime.native;
}

// The CUDA runtime of each device index; a failure is remembered, so that 'auto' asks once.
const cudaRuntimes = new Map<number, NativeRuntime | SwitchyardError>();
function openCuda(addon: Addon, index: number, optional: boolean): NativeRuntime | null {
  let found = cudaRuntimes.get(index);
  if (!found) {
    try {
      found = addon.createRuntime({ threads: availableParallelism(), library: cudaLibrary, index });
    } catch (error) {
      if (!(error instanceof SwitchyardError)) throw error;
      found = error;
    }
    cudaRuntimes.set(index, found);
  }
  if (!(found instanceof SwitchyardError)) return found;
  if (optional) return null;
  throw new SwitchyardError('ERR_DEVICE', `[device] got no usable CUDA device: ${found.message}`, {
    hint: "build the backend with 'npm run build:cuda', or use device 'cpu'",
    cause: found,
  });
}

let opcodes: ReadonlyMap<string, number> | null = null;
function sharedOpcodes(addon: Addon): ReadonlyMap<string, number> {
  opcodes ??= new Map(addon.elementwiseOpcodes().map((name, i) => [name, i]));
  return opcodes;
}

let standard: Device | null = null;
/** The device that tensors and models use unless told otherwise. */
export function defaultDevice(): Device {
  standard ??= new Device();
  return standard;
}

/** A device with other threads or another tier than the default one. */
export const device = (options: DeviceOptions = {}): Device => new Device(options);

connectRuntime(
  (tensors) => evaluate(tensors, defaultDevice()),
  (t) => defaultDevice().read(t),
);
