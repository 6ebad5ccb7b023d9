/** Router logits that are no numbers are an error that names the token, not a routing. */
import { apply1, checkDType, checkRank, defineOp, tensorInput } from '../op.js';
import type { Tensor } from '../tensor.js';

const checkedLogitsOp = defineOp({
  name: 'checked_logits',
  attrs: {},
  infer(inputs) {
    const logits = tensorInput('checked_logits', 'logits', inputs[0]); // [N, E]
    checkDType('checked_logits', 'logits', logits.dtype, 'f32');
    checkRank('checked_logits', 'logits', logits.shape, 2);
    return [{ dtype: 'f32', shape: logits.shape }];
  },
  gradient: ({ grads }) => [grads[0] as Tensor],
  lower: () => ({ kernel: 'checked_logits', attrs: [] }),
});
/** The same values [N, E]; a run with NaN or +∞ among them fails with ERR_OPTION. -∞ passes: an expert of weight 0. */
export const checkedLogits = (logits: Tensor): Tensor => apply1(checkedLogitsOp, [logits]);
