/** A decoder over windows of a text: what it computes for each token, with bounded memory. */
import { attention } from '../core/ops/attention.js';
import { compileOn } from '../core/program/compile.js';
import { type Tensor, tensor } from '../core/tensor.js';
import type { LanguageModel } from '../generate/handles/language-model.js';
import type { Attend } from '../nn/attention.js';

export interface WindowOutput {
  /** After the final norm: what the head reads, [N, D]. */
  readonly hidden: Tensor;
  /** Per sparse layer: i32 [N, K] and [N, K]. */
  readonly routing: readonly { readonly expertIds: Tensor; readonly combineWeights: Tensor }[];
}

export class Scorer {
  readonly #run;

  constructor(readonly model: LanguageModel) {
    const { decoder, device, dtype } = model;
    this.#run = compileOn(
      () => device,
      (tokens: Tensor, positions: Tensor, offsets: Tensor): WindowOutput => {
        const attend: Attend = (q, k, v, options) => attention(q, k, v, offsets, offsets, options);
        // Logits of all tokens at once would be gigabytes for large vocabularies: the head comes later, by chunks.
        const { hiddenStates, routing } = decoder.forward({ tokens, positions, attend: () => attend }, dtype);
        return {
          hidden: hiddenStates.at(-1) as Tensor,
          routing: routing.map(({ expertIds, combineWeights }) => ({ expertIds, combineWeights })),
        };
      },
      { device },
    );
  }

  run(ids: readonly number[]): Promise<WindowOutput> {
    const positions = Int32Array.from(ids, (_, i) => i);
    return this.#run(tensor(Int32Array.from(ids)), tensor(positions), tensor(Int32Array.of(0, ids.length)));
  }

  dispose(): void {
    this.#run.dispose();
  }
}
