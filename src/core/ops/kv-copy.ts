/** Copying blocks of a paged cache: a sequence that shared a block gets one of its own before it writes there. */

import { SwitchyardError } from '../errors.js';
import { apply1, checkDType, checkRank, checkSize, defineOp, tensorInput } from '../op.js';
import type { Tensor } from '../tensor.js';

const kvCopyOp = defineOp({
  name: 'kv_copy',
  attrs: {},
  infer(inputs) {
    const cache = tensorInput('kv_copy', 'cache', inputs[0]);
    const pairs = tensorInput('kv_copy', 'pairs', inputs[1]);
    if (cache.shape.length === 0)
      throw new SwitchyardError('ERR_SHAPE', '[kv_copy] got a scalar cache, expected blocks');
    checkDType('kv_copy', 'pairs', pairs.dtype, 'i32');
    checkRank('kv_copy', 'pairs', pairs.shape, 2);
    checkSize('kv_copy', 'columns of pairs', pairs.shape[1] as number, 2);
    return [{ dtype: cache.dtype, shape: cache.shape }];
  },
  gradient: 'nondifferentiable',
  mutates: true,
  cost([cache, pairs]) {
    const [c, p] = [cache as Tensor, pairs as Tensor];
    return { flops: 0, bytes: (2 * c.bytes * (p.shape[0] as number)) / Math.max(1, c.shape[0] as number) };
  },
  lower: () => ({ kernel: 'kv_copy', attrs: [] }),
});

/**
 * Copies blocks of `cache` [blocks, …] in place, pair after pair, and returns the cache after it.
 * @param pairs i32 [P, 2]: from, to; a pair with -1 is skipped
 */
export const kvCopy = (cache: Tensor, pairs: Tensor): Tensor => apply1(kvCopyOp, [cache, pairs], {});
