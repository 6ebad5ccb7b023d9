import type { LimitName } from '../../src/core/addon.js';
import type { Device } from '../../src/core/device.js';
import type { ComputeMode } from '../../src/core/format.js';
import { summarize } from './statistics.js';

const RUNS = 7;
/** In a turn of a contest: about as long as what it is compared with, so that a slow moment of the machine meets both. */
const SAMPLE_MS = 700;

/** The machine's own rates: the median of what a contest has sampled in its turns, else measured once a process. */
export class LimitBook {
  readonly #once = new Map<string, Promise<number | null>>();
  readonly #sampled = new Map<LimitName, number[]>();

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

  /** Forgets the samples of these rates. */
  restart(rates: readonly LimitName[]): void {
    for (const what of rates) this.#sampled.delete(what);
  }

  /** Measures these rates on all threads once more: as much as the machine gave over the time that it took. */
  async sample(names: readonly LimitName[]): Promise<void> {
    for (const what of names) {
      const rates: number[] = [];
      const end = performance.now() + (this.smoke ? 0 : SAMPLE_MS);
      do {
        const runs = await measureLimit(this.device, what, this.device.threads, this.smoke);
        if (!runs) break;
        rates.push(...runs);
      } while (performance.now() < end);
      if (rates.length > 0) this.#sampled.set(what, [...(this.#sampled.get(what) ?? []), overAll(rates)]);
    }
  }

  async #rate(what: LimitName, threads: number): Promise<number | null> {
    const samples = threads === this.device.threads ? this.#sampled.get(what) : undefined;
    if (samples) return summarize(samples).median;
    const key = `${what} ${threads}`;
    let rate = this.#once.get(key);
    if (!rate) {
      rate = measureLimit(this.device, what, threads, this.smoke).then((runs) => runs && Math.max(...runs));
      this.#once.set(key, rate);
    }
    return rate;
  }
}

/** The rate of runs of one amount, taken together. */
const overAll = (rates: readonly number[]): number =>
  rates.length / rates.reduce((time, rate) => time + 1 / rate, 0);

/** Rates of several runs, in bytes or operations per second; null where the tier has no instruction for it. */
export async function measureLimit(
  { addon, native, isa }: Device,
  what: LimitName,
  threads: number,
  smoke: boolean,
  tier: string = isa,
): Promise<number[] | null> {
  const size = smoke ? { bytes: 8 << 20, milliseconds: 2, runs: 1 } : { runs: RUNS };
  try {
    return await addon.measureLimit(native, what, { threads, tier, ...size });
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_UNSUPPORTED') return null;
    throw error;
  }
}
