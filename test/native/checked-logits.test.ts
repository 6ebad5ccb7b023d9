/** Router logits that are no numbers: the error names token and output. */
import { describe, expect, it } from 'vitest';
import '../../src/core/device.js';
import * as ops from '../../src/core/ops/index.js';
import { tensor } from '../../src/core/tensor.js';

describe('checked_logits', () => {
  it.each([
    ['NaN', Number.NaN],
    ['+∞', Number.POSITIVE_INFINITY],
  ])('%s is refused with its place', async (_, value) => {
    const logits = tensor([
      [0, 1, 2],
      [3, 4, value],
    ]);
    await expect(ops.checkedLogits(logits).data()).rejects.toMatchObject({
      code: 'ERR_OPTION',
      message: expect.stringMatching(/^\[router\] got logit (nan|inf) for token 1 and output 2, expected/),
    });
  });
});
