/** Layers that predict further ahead, against scripts/reference/token_prediction.py: states, logits, and the drafter's guesses. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { attention } from '../../src/core/ops/attention.js';
import { compileOn } from '../../src/core/program/compile.js';
import { type Tensor, tensor } from '../../src/core/tensor.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { drafters } from '../../src/generate/speculate/drafters.js';
import type { DraftContext, Drafter } from '../../src/generate/speculate/speculative.js';
import { expectClose } from './compare.js';
import { readJson, StoredTensors } from './folders.js';

interface Text {
  readonly ids: number[];
  /** What the layer says behind them, one guess after the other. */
  readonly guesses: number[];
}
const i32 = (values: readonly number[]): Tensor => tensor(Int32Array.from(values));

describe.each(['deepseek_v3', 'glm4_moe'])('the prediction layer of %s', (family) => {
  const folder = fileURLToPath(new URL(`../fixtures/prediction/${family}`, import.meta.url));
  const { texts } = readJson(join(folder, 'prediction.json')) as { texts: Text[] };

  it('has the states and the logits of the reference', async () => {
    await using model = await loadLanguageModel(folder, { dtype: 'f32' });
    const { decoder, device } = model;
    const run = compileOn(
      () => device,
      (hidden: Tensor, tokens: Tensor, positions: Tensor, offsets: Tensor) =>
        decoder.predict(
          0,
          {
            hidden,
            tokens,
            positions,
            attend: () => (q, k, v, o) => attention(q, k, v, offsets, offsets, o),
          },
          'f32',
        ),
    );
    const stored = new StoredTensors(join(folder, 'prediction.safetensors'));
    for (const [i, { ids }] of texts.entries()) {
      const states = stored.floats(`${i}.states`);
      const { hiddenStates = [] } = await model.forward({ inputIds: [ids], outputHiddenStates: true });
      expectClose('states', (await hiddenStates.at(-1)?.data()) as Float32Array, states.data, {
        tolerance: 1e-4,
      });
      const [n, d] = [ids.length - 1, states.shape[1] as number];
      const places = Array.from({ length: n }, (_, t) => t);
      const given = tensor(states.data.slice(0, n * d), [n, d]);
      const { hidden, logits } = await run(given, i32(ids.slice(1)), i32(places), i32([0, n]));
      for (const [what, got] of Object.entries({ hidden, logits })) {
        const want = stored.floats(`${i}.${what}`);
        expect(got.shape).toEqual(want.shape);
        expectClose(what, (await got.data()) as Float32Array, want.data, { tolerance: 1e-4 });
      }
    }
    run.dispose();
    expect(stored.unused()).toEqual([]);
  });

  it('guesses what the reference guesses', async () => {
    await using model = await loadLanguageModel(folder, { dtype: 'f32' });
    const mtp = drafters.mtp(model, { tokens: 3 });
    for (const { ids, guesses } of texts) {
      const seen: (readonly number[])[] = [];
      const speculation: Drafter = {
        ...mtp,
        start(run) {
          const draft = mtp.start(run);
          const propose = async (context: DraftContext): Promise<readonly number[]> => {
            seen.push(await draft.propose(context));
            return seen.at(-1) as readonly number[];
          };
          return { propose, close: () => draft.close() };
        },
      };
      // the last token of the text is made to be the one chosen first
      const forcedTokens = { 0: ids.at(-1) as number };
      await model.generate(ids.slice(0, -1), { maxTokens: 5, forcedTokens, speculation }).result();
      expect(seen[0]).toEqual(guesses);
    }
    await mtp.dispose();
  });
});
