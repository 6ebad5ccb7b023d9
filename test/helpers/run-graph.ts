/** Runs graphs natively and hands the results back as numbers. */
import type { NativeBuffer } from '../../src/core/addon.js';
import { type Device, defaultDevice, device } from '../../src/core/device.js';
import type { TypedArray } from '../../src/core/dtype.js';
import type { Tier } from '../../src/core/env.js';
import type { OpInput } from '../../src/core/op.js';
import { Executable } from '../../src/core/program/compile.js';
import { Tensor } from '../../src/core/tensor.js';
import { decode, type Value } from './interpreter/value.js';

/** Every instruction-set tier of this machine. */
export const tiers = (): Tier[] => defaultDevice().addon.deviceInfo().tiers as Tier[];

const devices = new Map<string, Device>();
export function deviceOf(isa: Tier, threads = 2): Device {
  const key = `${isa} ${threads}`;
  const found = devices.get(key) ?? device({ isa, threads });
  devices.set(key, found);
  return found;
}

export interface NativeResult {
  readonly value: Value;
  /** As it lies in memory. */
  readonly bits: Uint8Array;
}

export interface NativeOptions {
  readonly fuse?: boolean;
  readonly ints?: Readonly<Record<string, number>>;
}

/** Compiles `build` on placeholders for the tensors of `inputs` and runs it on copies of their values. */
export async function runNative(
  on: Device,
  inputs: readonly OpInput[],
  build: (inputs: readonly OpInput[]) => readonly Tensor[],
  options: NativeOptions = {},
): Promise<NativeResult[]> {
  const placeholders: Tensor[] = [];
  const buffers: NativeBuffer[] = [];
  const open = inputs.map((x) => {
    if (!(x instanceof Tensor)) return x;
    const p = Tensor.placeholder(x.dtype, x.shape);
    placeholders.push(p);
    buffers.push(on.upload(on.read(x)));
    return p;
  });
  return execute(on, placeholders, build(open), buffers, options);
}

/** Runs a graph whose leaves have values. */
export const runGraph = (
  on: Device,
  outputs: readonly Tensor[],
  options?: NativeOptions,
): Promise<NativeResult[]> => execute(on, [], outputs, [], options);

async function execute(
  on: Device,
  placeholders: readonly Tensor[],
  outputs: readonly Tensor[],
  buffers: NativeBuffer[],
  { fuse = true, ints = {} }: NativeOptions = {},
): Promise<NativeResult[]> {
  const program = Executable.build(on, placeholders, outputs, { fuse });
  const results = await program.run(buffers, { ints });
  return outputs.map((t, i) => {
    const array: TypedArray = on.read(Tensor.ofBuffer(results[i] as NativeBuffer, t.dtype, t.shape));
    return {
      value: { dtype: t.dtype, shape: t.shape, data: decode(t.dtype, array) },
      bits: new Uint8Array(array.buffer, array.byteOffset, array.byteLength),
    };
  });
}
