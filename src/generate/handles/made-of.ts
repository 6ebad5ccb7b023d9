import type { Device } from '../../core/device.js';
import { Decoder } from '../../models/decoder/decoder.js';
import { weightsOf } from '../../models/parts.js';
import type { Encoder } from '../../models/stacks/encoder.js';
import type { EncoderDecoder } from '../../models/stacks/encoder-decoder.js';

/** What is made of loaded weights, such as their handle; where it cannot be made, they are disposed of. */
export async function madeOf<H>(
  model: Decoder | Encoder | EncoderDecoder,
  device: Device,
  make: () => Promise<H>,
): Promise<H> {
  try {
    return await make();
  } catch (error) {
    if (model instanceof Decoder) for (const split of model.splits.values()) split.dispose();
    for (const { native } of weightsOf(model)) device.disposeWeight(native);
    throw error;
  }
}
