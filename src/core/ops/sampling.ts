/** Choosing the next token natively, so that a decode step hands back one integer. */
import { apply, checkDType, checkInt, checkRank, checkSize, defineOp, tensorInput } from '../op.js';
import type { Tensor } from '../tensor.js';

const sampleOp = defineOp({
  name: 'sample',
  attrs: {},
  infer(inputs) {
    const logits = tensorInput('sample', 'logits', inputs[0]);
    const history = tensorInput('sample', 'history', inputs[1]);
    const params = tensorInput('sample', 'params', inputs[2]);
    const seeds = tensorInput('sample', 'seeds', inputs[3]);
    checkDType('sample', 'logits', logits.dtype, 'f32');
    checkDType('sample', 'params', params.dtype, 'f32');
    checkDType('sample', 'history', history.dtype, 'i32');
    checkDType('sample', 'seeds', seeds.dtype, 'u32');
    for (const [what, t] of Object.entries({ logits, history, params, seeds }))
      checkRank('sample', what, t.shape, 2);
    const rows = checkInt('sample', 'sequences', logits.shape[0], 0, 2 ** 31 - 1);
    for (const [what, t] of Object.entries({ history, params, seeds }))
      checkSize('sample', `${what} of length`, t.shape[0] as number, rows);
    checkSize('sample', 'params a row', params.shape[1] as number, 4);
    checkSize('sample', 'seeds a row', seeds.shape[1] as number, 2);
    return [
      { dtype: 'i32', shape: [rows] },
      { dtype: 'f32', shape: [rows] },
    ];
  },
  gradient: 'nondifferentiable',
  lower: () => ({ kernel: 'sample', attrs: [] }),
});

export interface SampleInputs {
  /** [S, V] */
  logits: Tensor;
  /** i32 [S, L]: tokens the repetition penalty looks at; -1: empty. */
  history: Tensor;
  /** [S, 4]: temperature (0: greedy), top-k (0: off), top-p (1: off), repetition penalty (1: off). */
  params: Tensor;
  /** u32 [S, 2]: seed, step. */
  seeds: Tensor;
}

/**
 * One token per row: repetition penalty (Keskar et al. 2019), temperature, top-k, top-p (Holtzman et al. 2020), then a draw.
 * @returns tokens i32 [S] and their log-probabilities [S] under the raw logits
 */
export function sample({ logits, history, params, seeds }: SampleInputs): {
  tokens: Tensor;
  logprobs: Tensor;
} {
  const [tokens, logprobs] = apply(sampleOp, [logits, history, params, seeds]) as [Tensor, Tensor];
  return { tokens, logprobs };
}
