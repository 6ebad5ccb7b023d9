/** Devices: where programs run, with how many threads and which instruction set. */
import { availableParallelism } from 'node:os';
import {
  type Addon,
  addon as loadAddon,
  type NativeBuffer,
  type NativeRuntime,
  type NativeWeight,
} from './addon.js';
import { arrayOf, type TypedArray } from './dtype.js';
import { type Env, readEnv, TIERS, type Tier } from './env.js';
import { checkOptions, SwitchyardError } from './errors.js';
import type { Tensor } from './tensor.js';
import { type ProgramTracer, Tracer } from './trace.js';

export interface DeviceOptions {
  /** Threads that kernels use. Default: SWITCHYARD_THREADS, else the cores this process may use. */
  threads?: number;
  /** Instruction-set tier. Default: SWITCHYARD_ISA, else the best present. */
  isa?: Tier;
}

/** A CPU with a number of threads and a tier. Cheap to make: devices of one process share the native runtime. */
export class Device {
  readonly kind = 'cpu';
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
    checkOptions('device', options, ['threads', 'isa']);
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
    this.native = sharedRuntime(this.addon, this.threads);
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

  /** This device on another instruction-set tier. */
  withTier(isa: Tier): Device {
    return isa === this.isa ? this : new Device({ threads: this.threads, isa });
  }

  toString(): string {
    return `cpu (${this.isa}, ${this.threads} threads)`;
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
