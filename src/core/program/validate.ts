import type { NativeBuffer } from '../addon.js';
import type { Device } from '../device.js';
import { SwitchyardError } from '../errors.js';
import { Tensor } from '../tensor.js';

/** Largest difference allowed, relative to the largest value; int8 and bf16 activations amplify rounding. */
const TOLERANCE = 2e-2;

/** Compares every f32 output of a program with that of its unfused twin on the same inputs (SWITCHYARD_VALIDATE). */
export function compareWithTwin(
  device: Device,
  types: readonly Tensor[],
  outputs: readonly NativeBuffer[],
  others: readonly NativeBuffer[],
): void {
  types.forEach((t, i) => {
    if (t.dtype !== 'f32') return;
    const got = device.read(Tensor.ofBuffer(outputs[i] as NativeBuffer, t.dtype, t.shape));
    const expected = device.read(Tensor.ofBuffer(others[i] as NativeBuffer, t.dtype, t.shape));
    let worst = 0;
    let largest = 0;
    for (let j = 0; j < got.length; j++) {
      const difference = Math.abs((got[j] as number) - (expected[j] as number));
      if (difference > worst) worst = difference;
      if (Math.abs(expected[j] as number) > largest) largest = Math.abs(expected[j] as number);
    }
    if (worst > TOLERANCE * Math.max(largest, 1e-6)) {
      throw new SwitchyardError(
        'ERR_NATIVE',
        `[validate] got output ${i} ${t} off by ${worst}, expected at most ${TOLERANCE} of ${largest}`,
        {
          hint: 'compare SWITCHYARD_ISA=scalar and SWITCHYARD_NO_FUSE=1 to find the kernel',
        },
      );
    }
  });
}
