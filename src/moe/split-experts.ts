/**
 * Experts of a layer between two memories: all of them lie with the host, and a GPU holds a copy of some. A token's choices of
 * those run there, the others on the CPU's kernels, and the two sums are added. Which experts have a place may change between
 * steps; the results do not, but for rounding.
 */
import type { NativeBuffer } from '../core/addon.js';
import { allOrNone } from '../core/all-or-none.js';
import type { Device } from '../core/device.js';
import { withNativeAbort } from '../core/native-abort.js';
import { add, less, where } from '../core/ops/elementwise.js';
import { takeRows } from '../core/ops/indexing.js';
import { moePlan } from '../core/ops/routing.js';
import { reshape } from '../core/ops/shape.js';
import { Tensor } from '../core/tensor.js';
import { Weight } from '../core/weight.js';
import { type ExpertParameters, type RunOptions, runExperts } from './experts.js';
import type { SparsePlan } from './plan.js';

/** The matrices of experts, packed. */
export interface PackedExperts {
  /** E × [F, D]; null for experts without a gate. */
  readonly gate: Weight | null;
  /** E × [F, D] */
  readonly up: Weight;
  /** E × [D, F] */
  readonly down: Weight;
}

/** Biases of all experts of a layer, on the device. */
export type ExpertBiases = Pick<ExpertParameters, 'gateBias' | 'upBias' | 'downBias'>;

/** Whole numbers, and their copy on the device. */
interface Uploaded {
  readonly values: Int32Array;
  readonly buffer: NativeBuffer;
}

const MATRICES = ['gate', 'up', 'down'] as const;

/** The matrices there are. */
export const matricesOf = (experts: PackedExperts): Weight[] =>
  MATRICES.map((name) => experts[name]).filter((weight) => weight !== null);

/** The places of a layer's experts on a GPU, H of them, H less than E; every place holds an expert. */
export class SplitExperts implements PackedExperts {
  /** i32 [E]: where an expert lies on the device; -1: only with the host. */
  readonly slots: Tensor;
  /** i32 [H]: the expert of a place. */
  readonly held: Tensor;
  readonly #slots: Int32Array;
  readonly #held: Int32Array;
  readonly #buffers: { readonly slots: NativeBuffer; readonly held: NativeBuffer };

  private constructor(
    readonly device: Device,
    /** All E experts, with the host. */
    readonly host: PackedExperts,
    readonly biases: ExpertBiases,
    /** H × [F, D], on the device; so the two below. */
    readonly gate: Weight | null,
    readonly up: Weight,
    readonly down: Weight,
    /** The first so many places keep their experts once use is known. */
    readonly fixed: number,
    slots: Uploaded,
    held: Uploaded,
  ) {
    [this.#slots, this.#held] = [slots.values, held.values];
    this.#buffers = { slots: slots.buffer, held: held.buffer };
    this.slots = Tensor.ofBuffer(slots.buffer, 'i32', [slots.values.length]);
    this.held = Tensor.ofBuffer(held.buffer, 'i32', [held.values.length]);
  }

  /** The first `places` experts of `host` in places on the device. @throws SwitchyardError ERR_OUT_OF_MEMORY, ERR_IO, … */
  static async make(
    device: Device,
    host: PackedExperts,
    biases: ExpertBiases,
    { places, fixed }: { readonly places: number; readonly fixed: number },
    signal?: AbortSignal,
  ): Promise<SplitExperts> {
    const first = Array.from({ length: places }, (_, expert) => expert);
    return allOrNone(async (keep) => {
      const copy = async (weight: Weight): Promise<Weight> =>
        keep(await onDevice(device, weight, first, signal), ({ native }) => device.disposeWeight(native));
      const upload = (values: Int32Array): Uploaded => {
        const buffer = keep(device.upload(values), device.addon.disposeBuffer);
        return { values, buffer };
      };
      const gate = host.gate && (await copy(host.gate));
      const up = await copy(host.up);
      const down = await copy(host.down);
      const slots = Int32Array.from({ length: host.up.experts }, (_, e) => (e < places ? e : -1));
      const held = upload(Int32Array.from(first));
      return new SplitExperts(device, host, biases, gate, up, down, fixed, upload(slots), held);
    });
  }

  /** E */
  get experts(): number {
    return this.#slots.length;
  }

  /** H */
  get places(): number {
    return this.#held.length;
  }

  /** Bytes of one expert. */
  get expertBytes(): number {
    return matricesOf(this).reduce((sum, { bytes }) => sum + bytes, 0) / this.places;
  }

  /** Which expert lies in a place. */
  heldAt(place: number): number {
    return this.#held[place] as number;
  }

  /** Where an expert lies on the device, or -1. */
  slotOf(expert: number): number {
    return this.#slots[expert] as number;
  }

  /**
   * Puts an expert that has no place in that of another. Each of the copies and writes stands between two runs, and a run may
   * begin between any two of them: the place is nobody's until its bytes are there.
   */
  replace(place: number, expert: number): void {
    const { addon } = this.device;
    this.#slots[this.heldAt(place)] = -1;
    addon.writeBuffer(this.#buffers.slots, this.#slots);
    for (const name of MATRICES) {
      const [from, to] = [this.host[name], this[name]];
      if (from && to) addon.copyExpert(from.native, expert, to.native, place);
    }
    this.#held[place] = expert;
    addon.writeBuffer(this.#buffers.held, this.#held);
    this.#slots[expert] = place;
    addon.writeBuffer(this.#buffers.slots, this.#slots);
  }

  /** Frees the places. Twice is fine. */
  dispose(): void {
    for (const { native } of matricesOf(this)) this.device.disposeWeight(native);
    for (const buffer of Object.values(this.#buffers)) this.device.addon.disposeBuffer(buffer);
  }
}

/** Some experts of a weight in the device's memory. */
export async function onDevice(
  device: Device,
  { native, format, rows, columns }: Weight,
  experts: readonly number[],
  signal?: AbortSignal,
): Promise<Weight> {
  const { addon } = device;
  const copy = await withNativeAbort(addon, signal, (abort) =>
    addon.convertWeight(device.native, native, format, experts, abort),
  );
  return new Weight(copy, format, experts.length, rows, columns, addon.weightInfo(copy).bytes);
}

/** As `runExperts` on all experts, which lie with the host: x [N, D] → [N, Dout]. */
export function runSplit(
  x: Tensor,
  { expertIds, combineWeights }: SparsePlan,
  experts: ExpertParameters,
  split: SplitExperts,
  options: RunOptions,
): Tensor {
  const { slots, held } = split;
  const shape = expertIds.shape; // [N, K]
  const places = reshape(takeRows(slots, reshape(expertIds, [expertIds.size])), shape);
  const hotIds = where(less(expertIds, 0), -1, places);
  const coldIds = where(less(hotIds, 0), expertIds, -1);
  const biasOf = (bias: Tensor | null | undefined): Tensor | null => (bias ? takeRows(bias, held) : null);
  const hot = {
    gate: split.gate,
    up: split.up,
    down: split.down,
    gateBias: biasOf(split.biases.gateBias),
    upBias: biasOf(split.biases.upBias),
    downBias: biasOf(split.biases.downBias),
  };
  return add(
    runExperts(x, moePlan(hotIds, split.places), combineWeights, hot, options),
    runExperts(x, moePlan(coldIds, split.experts), combineWeights, experts, options),
  );
}
