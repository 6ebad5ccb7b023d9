/** Experts that tokens choose often move to the GPU, in the place of those that they choose seldom; between steps. */
import type { SplitExperts } from '../../moe/split-experts.js';

/** Places of a layer's experts, as the cache sees them. */
export type CachedExperts = Pick<
  SplitExperts,
  'experts' | 'places' | 'fixed' | 'expertBytes' | 'heldAt' | 'slotOf' | 'replace'
>;

export interface ExpertCacheOptions {
  /** Tokens after which a choice counts half. Default 512: a text has a subject, and the next one another. */
  halfLife?: number;
  /**
   * How many more counts than the one that it replaces an expert must have. Default 16: one copy over the bus takes as long as
   * the CPU takes for about ten uses of an expert.
   */
  margin?: number;
  /** Bytes that may be copied after one step, or one expert where that is more. Default 32 MiB: a few milliseconds. */
  bytesAStep?: number;
  /** Steps after which fixed places keep what they hold. Default 256. */
  settleSteps?: number;
}

/** Counts are never equal by chance alone: a busier expert has half as many again. */
const RATIO = 1.5;

interface Layer {
  readonly split: CachedExperts;
  /** Its number among the sparse layers. */
  readonly index: number;
  /** [E]: choices, the older the less. */
  readonly counts: Float64Array;
}

export class ExpertCache {
  readonly #layers: readonly Layer[];
  readonly #options: Required<ExpertCacheOptions>;
  #steps = 0;
  #replaced = 0;
  /** The layer whose turn is next: bytes of a step may not be enough for all. */
  #next = 0;

  /** @param splits of each sparse layer, in order; null: it has none */
  constructor(
    splits: readonly (CachedExperts | null)[],
    { halfLife = 512, margin = 16, bytesAStep = 2 ** 25, settleSteps = 256 }: ExpertCacheOptions = {},
  ) {
    this.#options = { halfLife, margin, bytesAStep, settleSteps };
    this.#layers = splits.flatMap((split, index) =>
      split ? [{ split, index, counts: new Float64Array(split.experts) }] : [],
    );
  }

  /** Experts that have got the place of another. */
  get replaced(): number {
    return this.#replaced;
  }

  /**
   * What the last step chose, before the next one begins.
   * @param met i32 [sparse layers · tokens, K]; -1: no expert
   * @param tokens of the step
   * @param real of those, the first ones; the others are padding
   */
  note(met: Int32Array, tokens: number, real: number, topK: number): void {
    const keep = 2 ** (-real / this.#options.halfLife);
    for (const { index, counts } of this.#layers) {
      for (let e = 0; e < counts.length; e++) counts[e] = (counts[e] as number) * keep;
      const start = index * tokens * topK;
      for (const expert of met.subarray(start, start + real * topK))
        if (expert >= 0) counts[expert] = (counts[expert] as number) + 1;
    }
    this.#steps++;
    this.#exchange();
  }

  /** One expert a layer at most. */
  #exchange(): void {
    const { bytesAStep, settleSteps } = this.#options;
    const settled = this.#steps > settleSteps;
    const first = this.#next;
    let bytes = 0;
    for (let i = 0; i < this.#layers.length; i++) {
      const at = (first + i) % this.#layers.length;
      const layer = this.#layers[at] as Layer;
      const change = this.#change(layer, settled ? layer.split.fixed : 0);
      if (!change) continue;
      if (bytes > 0 && bytes + layer.split.expertBytes > bytesAStep) break;
      layer.split.replace(change.place, change.expert);
      bytes += layer.split.expertBytes;
      this.#replaced++;
      this.#next = (at + 1) % this.#layers.length;
    }
  }

  /** The busiest expert without a place, and the place from `start` on whose expert is chosen least, if it is worth it. */
  #change({ split, counts }: Layer, start: number): { place: number; expert: number } | null {
    const count = (expert: number): number => counts[expert] as number;
    let expert = -1;
    for (let e = 0; e < counts.length; e++)
      if (split.slotOf(e) < 0 && (expert < 0 || count(e) > count(expert))) expert = e;
    let place = -1;
    for (let p = start; p < split.places; p++)
      if (place < 0 || count(split.heldAt(p)) < count(split.heldAt(place))) place = p;
    if (place < 0 || expert < 0) return null;
    const least = count(split.heldAt(place));
    return count(expert) >= RATIO * least + this.#options.margin ? { place, expert } : null;
  }
}
