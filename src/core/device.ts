/** Devices: where programs run, with how many threads and which instruction set. */
import { availableParallelism } from 'node:os';
import {
  type Addon,
  addon as loadAddon,
  type NativeBuffer,
  type NativeDevice,
  type NativeProgram,
  type NativeRuntime,
  type NativeWeight,
} from './addon.js';
import { findCuda, openCuda } from './backend.js';
import { arrayOf, type TypedArray } from './dtype.js';
import {
  DEVICE_NAMES,
  type DeviceName,
  type Env,
  parseDeviceName,
  readEnv,
  TIERS,
  type Tier,
} from './env.js';
import { checkOptions, SwitchyardError } from './errors.js';
import type { Tensor } from './tensor.js';
import { type ProgramTracer, Tracer } from './trace.js';

export interface DeviceOptions {
  /** Which one. Default: SWITCHYARD_DEVICE, else 'cpu'. */
  name?: DeviceName;
  /** Threads that kernels of the CPU use. Default: SWITCHYARD_THREADS, else the cores this process may use. */
  threads?: number;
  /** Instruction-set tier. Default: SWITCHYARD_ISA, else the best present. */
  isa?: Tier;
}

/**
 * A CPU with a number of threads and a tier, or a GPU (threads and tier then serve what is left to the host). Cheap to make:
 * devices of one process share the native runtime.
 */
export class Device {
  readonly kind: 'cpu' | 'cuda';
  /** Of a GPU: its number. */
  readonly ordinal: number;
  readonly env: Env;
  readonly threads: number;
  readonly isa: Tier;
  readonly tracer: ProgramTracer | null;
  /** @internal */
  readonly addon: Addon;
  /** @internal Of a GPU. */
  readonly pool: NativeDevice | undefined;
  /** @internal */
  readonly native: NativeRuntime;
  /** @internal Opcodes of the elementwise kernel by name. */
  readonly opcodes: ReadonlyMap<string, number>;
  readonly #uploads = new WeakMap<TypedArray, NativeBuffer>();

  constructor(options: DeviceOptions = {}) {
    checkOptions('device', options, ['name', 'threads', 'isa']);
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
    const where = place(options.name ?? this.env.device ?? 'cpu');
    this.kind = where.pool ? 'cuda' : 'cpu';
    this.ordinal = where.ordinal;
    this.pool = where.pool;
    this.native = sharedRuntime(this.addon, this.threads, this.pool);
    this.opcodes = sharedOpcodes(this.addon);
    const traced = this.env.trace !== undefined || this.env.debug >= 2;
    this.tracer = traced ? Tracer.shared(this.env.trace, this.env.debug >= 2) : null;
  }

  /** @internal Zeros. */
  allocate(bytes: number): NativeBuffer {
    return this.addon.createBuffer(bytes, this.pool);
  }

  /** @internal A copy of the view's bytes. */
  upload(data: ArrayBufferView): NativeBuffer {
    return this.addon.bufferFrom(data, this.pool);
  }

  /** @internal */
  program(binary: Uint8Array, constants: NativeBuffer[], weights: NativeWeight[]): NativeProgram {
    return this.addon.createProgram(binary, constants, weights, this.pool);
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
      buffer = this.upload(source.data);
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
    const name = this.kind === 'cuda' ? (`cuda:${this.ordinal}` as const) : 'cpu';
    return isa === this.isa ? this : new Device({ name, threads: this.threads, isa });
  }

  toString(): string {
    if (!this.pool) return `cpu (${this.isa}, ${this.threads} threads)`;
    return `cuda:${this.ordinal} (${this.addon.openedDevice(this.pool).name})`;
  }
}

// Where a device of a name is: a GPU's pool, or none for the CPU.
function place(name: DeviceName): { pool: NativeDevice | undefined; ordinal: number } {
  const parsed = parseDeviceName(name);
  if (!parsed) {
    throw new SwitchyardError('ERR_DEVICE', `[device] got '${name}', expected ${DEVICE_NAMES}`);
  }
  if (parsed.kind === 'cuda') return { pool: openCuda(parsed.ordinal), ordinal: parsed.ordinal };
  return { pool: parsed.kind === 'auto' ? findCuda() : undefined, ordinal: 0 };
}

// One executor thread and pool serve all devices of an environment on one GPU or on the CPU; only more threads than it has
// need another.
const runtimes = new Map<NativeDevice | undefined, { native: NativeRuntime; threads: number }>();
function sharedRuntime(addon: Addon, threads: number, device: NativeDevice | undefined): NativeRuntime {
  let runtime = runtimes.get(device);
  if (!runtime || runtime.threads < threads) {
    const size = Math.max(threads, availableParallelism());
    runtime = { native: addon.createRuntime({ threads: size, device }), threads: size };
    runtimes.set(device, runtime);
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

/** A device by name, or with other threads or another tier than the default one. */
export const device = (options: DeviceOptions | DeviceName = {}): Device =>
  new Device(typeof options === 'string' ? { name: options } : options);
