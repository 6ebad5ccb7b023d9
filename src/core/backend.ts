/** Devices of backends: libraries beside the addon that are loaded when a device of theirs is asked for. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Addon, addon as loadAddon, type NativeDevice } from './addon.js';
import { readEnv } from './env.js';
import { SwitchyardError } from './errors.js';

const DEFAULT_LIBRARY = fileURLToPath(new URL('../../build/cuda/switchyard_cuda.so', import.meta.url));

// A device is opened once: its memory is shared by all that run on it.
const opened = new Map<number, NativeDevice | SwitchyardError>();

/** The CUDA device of a number. Throws ERR_DEVICE with one sentence where there is none that works. */
export function openCuda(ordinal: number): NativeDevice {
  let device = opened.get(ordinal);
  if (device === undefined) {
    device = tryOpen(loadAddon(), ordinal);
    opened.set(ordinal, device);
  }
  if (device instanceof SwitchyardError) throw device;
  return device;
}

/** The first CUDA device, or undefined where none works. */
export function findCuda(): NativeDevice | undefined {
  try {
    return openCuda(0);
  } catch (error) {
    if (error instanceof SwitchyardError) return undefined;
    throw error;
  }
}

function tryOpen(addon: Addon, ordinal: number): NativeDevice | SwitchyardError {
  const library = readEnv().cudaLibrary ?? DEFAULT_LIBRARY;
  if (!existsSync(library))
    return new SwitchyardError('ERR_DEVICE', `[device] got no CUDA backend at '${library}', expected one`, {
      hint: "build it with 'npm run build:cuda' (needs nvcc 13 and CMake), or use device 'cpu'",
    });
  try {
    return addon.openDevice(library, ordinal);
  } catch (cause) {
    if (!(cause instanceof SwitchyardError)) throw cause;
    return new SwitchyardError('ERR_DEVICE', cause.message, { cause, hint: "use device 'cpu' or 'auto'" });
  }
}
