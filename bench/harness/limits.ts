import type { LimitName } from '../../src/core/addon.js';
import type { Device } from '../../src/core/device.js';
import type { ComputeMode } from '../../src/core/format.js';

/** The machine's own rates, measured once a process when first asked for: shares are of the best run. */
export class LimitBook {
  readonly #rates = new Map<string, Promise<number | null>>();

  constructor(
    readonly device: Device,
    readonly smoke: boolean,
  ) {}

  /** Bytes per second that `threads` threads read from memory. */
  async bandwidth(threads = this.device.threads): Promise<number> {
    return (await this.#rate('read', threads)) ?? 0;
  }

  /** Operations per second of a compute mode on the device's tier; null where it has no instruction for it. */
  operations(mode: ComputeMode, threads = this.device.threads): Promise<number | null> {
    return this.#rate(mode, threads);
  }

  #rate(what: LimitName, threads: number): Promise<number | null> {
    const key = `${what} ${threads}`;
    let rate = this.#rates.get(key);
    if (!rate) {
      rate = measureLimit(this.device, what, threads, this.smoke).then((runs) => runs && Math.max(...runs));
      this.#rates.set(key, rate);
    }
    return rate;
  }
}

/** Rates of several runs, in bytes or operations per second; null where the tier has no instruction for it. */
export async function measureLimit(
  { addon, native, isa }: Device,
  what: LimitName,
  threads: number,
  smoke: boolean,
  tier: string = isa,
): Promise<number[] | null> {
  const size = smoke ? { bytes: 8 << 20, milliseconds: 2, runs: 1 } : { runs: 7 };
  try {
    return await addon.measureLimit(native, what, { threads, tier, ...size });
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_UNSUPPORTED') return null;
    throw error;
  }
}
