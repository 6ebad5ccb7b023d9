import { type Addon, addon, type NativeBuffer, type RunOptions } from '../../src/core/addon.js';
import { encodeProgram } from './program-builder.js';

/** The code of the SwitchyardError that `work` throws or rejects with; undefined where it does neither. */
export async function codeOf(work: () => unknown): Promise<string | undefined> {
  try {
    await work();
  } catch (error) {
    return (error as { code?: string }).code ?? `no code: ${error}`;
  }
  return undefined;
}

export const floats = (values: number[]): NativeBuffer => addon().bufferFrom(Float32Array.from(values));

export function readFloats(buffer: NativeBuffer): number[] {
  const values = new Float32Array(addon().bufferBytes(buffer) / 4);
  addon().readBuffer(buffer, values);
  return [...values];
}

/** out = in, copied through the arena in `steps` instructions: as long a run as a test wants. */
export function copyProgram(elements: number, steps: number): Uint8Array {
  const dims = [elements];
  const offset = Math.ceil((elements * 4) / 64) * 64;
  // 0: the input, 1 and 2: the two halves of the arena, 3: the output
  return encodeProgram({
    inputs: 1,
    outputs: 1,
    arenaBytes: 2 * offset,
    buffers: [
      { kind: 'input', dims },
      { kind: 'arena', dims },
      { kind: 'arena', dims, offset },
      { kind: 'output', dims },
    ],
    instructions: Array.from({ length: steps }, (_, i) => ({
      kernel: 'strided_copy',
      inputs: [i === 0 ? 0 : 1 + ((i - 1) % 2)],
      outputs: [i === steps - 1 ? 3 : 1 + (i % 2)],
      attributes: [{ ints: [1] }, { int: 0 }],
    })),
  });
}

/** Runs on a runtime of its own and gives it back. */
export async function runOnce(
  binary: Uint8Array,
  inputs: NativeBuffer[],
  ints: number[] = [],
  options?: RunOptions,
): Promise<NativeBuffer[]> {
  const native: Addon = addon();
  const runtime = native.createRuntime({ threads: 2 });
  try {
    return await native.run(runtime, native.createProgram(binary, [], []), inputs, ints, options);
  } finally {
    native.disposeRuntime(runtime);
  }
}
