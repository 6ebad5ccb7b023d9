import { type Device, device } from '../../src/core/device.js';
import { SwitchyardError } from '../../src/core/errors.js';

/**
 * A GPU, or the emulated one that SWITCHYARD_CUDA_LIBRARY names. Says on stderr what is skipped where there is none; fails where
 * SWITCHYARD_DEVICE asks for one.
 */
export function cudaDevice(what: string): Device | null {
  try {
    return device('cuda');
  } catch (error) {
    if (!(error instanceof SwitchyardError) || process.env.SWITCHYARD_DEVICE?.startsWith('cuda')) throw error;
    console.warn(`${what}: skipped, ${error.message}; 'npm run test:cuda' builds an emulated one`);
    return null;
  }
}
