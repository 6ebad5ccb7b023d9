/** T5's bias on attention scores by the distance of key and query (Raffel et al. 2020, section 2.1). */
import { SwitchyardError } from '../core/errors.js';

export interface BucketOptions {
  /** Buckets, of both directions together where `bidirectional`. */
  buckets: number;
  /** Distances from here on share a bucket. */
  maxDistance: number;
  /** Later keys have buckets of their own: encoders. */
  bidirectional: boolean;
}

/** Buckets of one direction, and the distances below `exact` that have a bucket each. */
function halves({ buckets, maxDistance, bidirectional }: BucketOptions): { count: number; exact: number } {
  const count = bidirectional ? Math.floor(buckets / 2) : buckets;
  const exact = Math.floor(count / 2);
  if (exact < 1 || maxDistance <= exact)
    throw new SwitchyardError(
      'ERR_FORMAT',
      `[relative bias] got ${buckets} buckets for distances up to ${maxDistance}, expected ${bidirectional ? 4 : 2} or more, and a distance beyond the ${exact} that have one each`,
    );
  return { count, exact };
}

/** The bucket of a distance = key position - query position. Half of a direction's buckets are exact, the rest grow logarithmically. */
export function distanceBucket(distance: number, options: BucketOptions): number {
  const { count, exact } = halves(options);
  const { maxDistance, bidirectional } = options;
  const base = bidirectional && distance > 0 ? count : 0;
  const away = bidirectional ? Math.abs(distance) : Math.max(0, -distance);
  if (away < exact) return base + away;
  // in float32, as the models were trained: an edge of a bucket may fall on a whole number
  const f = Math.fround;
  const share = f(f(Math.log(f(away / exact))) / f(Math.log(maxDistance / exact)));
  return base + Math.min(count - 1, exact + Math.trunc(f(share * (count - exact))));
}

/** Far above any published model, far below what would exhaust memory. */
const MOST_DISTANCE = 1 << 16;

/** The buckets of all distances from -left to left (or to 0): beyond, the outermost ones hold. */
export function distanceBuckets(options: BucketOptions): { buckets: Int32Array; left: number } {
  const left = options.maxDistance;
  if (left > MOST_DISTANCE)
    throw new SwitchyardError(
      'ERR_FORMAT',
      `[relative bias] got distances up to ${left}, expected at most ${MOST_DISTANCE}`,
    );
  const length = left + 1 + (options.bidirectional ? left : 0);
  return { left, buckets: Int32Array.from({ length }, (_, i) => distanceBucket(i - left, options)) };
}
